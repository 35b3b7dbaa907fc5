"""Move, copy, prune and search are killed at random moments: nothing is lost, and all of it can be done again."""

from __future__ import annotations

import random
import select
import subprocess
import sys
from typing import Any

import pytest

import persistkit
from persistkit import Store

pytestmark = pytest.mark.faults

VALUES = {f"a/{number:03}": {"number": number, "text": "x" * 500} for number in range(80)}
WORKS = {
    "move": "store.move('a/', 'b/', progress=False)",
    "copy": "store.view('a/').copy_to(store.view('b/'), overwrite='skip', progress=False)",
    "prune": "store.prune(prefix='a/', keep_last=20, dry_run=False, progress=False)",
    "search": "store.search('x', progress=False)",
    "a broken move": "[store.__setitem__('b' + key[1:], store.pop(key)) for key in store.keys('a/')]",
}
MOST_SECONDS = 0.15
# A broken one is killed until it is caught, or so often that chance is no excuse.
MOST = 40


def kill_while(work: str, place: tuple[str, dict[str, Any]], dice: random.Random) -> bool:
    """Do ``work`` in a process that is killed at a random moment after it began; tell whether it was still at work."""
    script = f"""
import pandas, pyarrow, sys, persistkit
from persistkit import search
store = persistkit.open({place[0]!r}, **{place[1]!r})
list(store)
print(flush=True); sys.stdin.readline()
{WORKS[work]}
print(flush=True)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script], **pipes)  # type: ignore[call-overload]
    try:
        process.stdout.readline()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        ended, _, _ = select.select([process.stdout], [], [], dice.random() ** 2 * MOST_SECONDS)
    finally:
        process.kill()
        process.communicate()
    return not ended


def lost(store: Store, work: str) -> list[str]:
    """Return the keys whose value is neither where it was nor where it was to go, and that was not to go away."""
    there = dict(store.items(errors="bytes"))
    kept = list(VALUES)[-20:] if work == "prune" else list(VALUES)
    torn = [key for key, value in there.items() if value != VALUES.get(f"a{key[1:]}")]
    return torn + [key for key in kept if key not in there and (work != "move" or f"b{key[1:]}" not in there)]


@pytest.mark.parametrize("work", ["move", "copy", "prune", "search"])
def test_killed_at_any_moment_nothing_is_lost(work: str, place: tuple[str, dict[str, Any]], times: int) -> None:
    """After kill -9 each value is where it was or where it was to go, and doing it again brings it to its end."""
    dice = random.Random(work)
    with persistkit.open(place[0], create=True, **place[1]) as store:
        for _ in range(3 * times):
            store.clear()
            for key, value in VALUES.items():
                store[key] = value
            timeless = store.to_frame()["modified"].isna().all()
            kill_while(work, place, dice)
            assert lost(store, work) == []
            exec(WORKS[work], {"store": store})  # noqa: S102 - the very line that was killed
            moved = [f"b{key[1:]}" for key in VALUES] if work in ("move", "copy") else []
            expected = moved if work == "move" else [*VALUES, *moved]
            assert list(store) == (expected[-20:] if work == "prune" and not timeless else expected)
            assert lost(store, work) == []


@pytest.mark.parametrize("place", ["files"], indirect=True)
def test_what_removes_first_is_caught(place: tuple[str, dict[str, Any]]) -> None:
    """The control: a move that removes a value before it stores it loses one, and is seen to."""
    dice = random.Random(1)
    with persistkit.open(place[0], create=True, **place[1]) as store:
        for _ in range(MOST):
            store.clear()
            store.update(VALUES)
            kill_while("a broken move", place, dice)
            if lost(store, "move"):
                return
    pytest.fail("a move that removes first was not caught")
