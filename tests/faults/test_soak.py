"""A soak: processes that do everything to one directory, killed at random, for a bounded time."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend

from .ledger import Ledger, Trials
from .soak import SHARED, all_keys, own_key, read

PROCESSES = 4
SOAK_SECONDS = 60
BY_ITSELF = "a process died by itself"
HOUR_AGO = time.time() - 3700


class Life:
    """One process, from its start to its kill, and what it said."""

    def __init__(self, base: Path, kind: str, owner: int, start: int) -> None:
        program = [sys.executable, str(Path(__file__).with_name("soak.py"))]
        arguments = [str(base), kind, str(owner), str(PROCESSES), str(start)]
        self._process = subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE)
        self.events: list[list[str]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # the last one may be cut by the kill
                self.events.append(line.decode().rstrip("\n").split("\t"))

    @property
    def died(self) -> bool:
        """Whether it ended by itself, which it never does."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it, and hear what it still said."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Account:
    """What may stand under each own key of one process: what was acknowledged last, or what was begun after it."""

    def __init__(self) -> None:
        self.possible: dict[str, set[int | None]] = {}
        self.last = 0
        self.acknowledged = 0
        self.wrong: list[str] = []

    def take(self, events: list[list[str]]) -> None:
        """Go through what one life said."""
        for event in events:
            if event[0] == "wrong":
                self.wrong.append(event[1])
                continue
            begun, operation, key, number = event
            outcome = int(number) if operation == "save" else None
            self.last = max(self.last, int(number))
            if begun == "begin":
                self.possible.setdefault(key, {None}).add(outcome)
            else:
                self.possible[key] = {outcome}
                self.acknowledged += 1


def soaked(base: Path, kind: str, seconds: float) -> Trials:
    """Run the processes on ``base`` for a time, killing one after the other; judge what they said and left.

    The control runs until one of its processes has seen something wrong, and no longer than the others.
    """
    accounts = [Account() for _ in range(PROCESSES)]
    lives = [Life(base, kind, owner, 0) for owner in range(PROCESSES)]
    try:
        trials = killed_at_random(base, kind, seconds, accounts, lives)
    finally:
        died = [life.died for life in lives]
        for life in lives:
            life.kill()
    print(f"{kind}: {trials.count} kills, {sum(account.acknowledged for account in accounts):,} acknowledged changes")
    for account, life, by_itself in zip(accounts, lives, died, strict=True):
        account.take(life.events)
        idle = ["a process did nothing"] * (account.acknowledged == 0)
        trials.add(*account.wrong, *idle, *[BY_ITSELF] * by_itself)
    trials += asyncio.run(left(base, accounts))
    return trials


def killed_at_random(base: Path, kind: str, seconds: float, accounts: list[Account], lives: list[Life]) -> Trials:
    """Kill one process after the other and start it again; each kill is a trial."""
    trials, generator = Trials(), random.Random(3)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(generator.uniform(0.1, 0.7))
        if kind == "control" and any(account.wrong for account in accounts):
            break
        owner = generator.randrange(PROCESSES)
        died = lives[owner].died
        if not lives[owner].events and not died:
            continue
        trials.add(*[BY_ITSELF] * died)
        lives[owner].kill()
        accounts[owner].take(lives[owner].events)
        lives[owner] = Life(base, kind, owner, accounts[owner].last)
    return trials


async def left(base: Path, accounts: list[Account]) -> Trials:
    """Judge what is left: each key by what its owner was told, then the listing and the directory after a repair."""
    trials = Trials()
    backend = FilePersistenceBackend(base)
    for owner, account in enumerate(accounts):
        for key in sorted({own_key(owner, number) for number in range(20)}):
            try:
                value = await backend.load(key)
                number = None if value is None else read(key, value)
            except ValueError as error:
                trials.add(str(error))
                continue
            possible = account.possible.get(key, {None})
            trials.add(*[f"lost: {key[:40]!r} is {number}, not one of {possible}"] * (number not in possible))
    for key in SHARED:
        trials.add(*torn(key, await backend.load(key)))
    for path in base.iterdir():
        os.utime(path, (HOUR_AGO, HOUR_AGO))
    await backend.check(repair=True)
    trials.add(*[f"left: {finding.problem} {finding.filename[:60]!r}" for finding in await backend.check()])
    trials.add(*[f"listed {key[:60]!r}" for key in set(await backend.list_keys()) - all_keys(PROCESSES)])
    return trials


def torn(key: str, value: bytes | None) -> list[str]:
    """Return what is wrong with a value that anybody may have saved last."""
    try:
        if value is not None:
            read(key, value)
    except ValueError as error:
        return [str(error)]
    return []


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_soak_tears_nothing_and_loses_nothing(tmp_path: Path, times: int, ledger: Ledger) -> None:
    """Four processes under random kills: nothing torn, nothing acknowledged lost, only true keys listed."""
    for folder in ("kept", "control"):
        (tmp_path / folder).mkdir()
    control = soaked(tmp_path / "control", "control", SOAK_SECONDS)
    kept = soaked(tmp_path / "kept", "kept", SOAK_SECONDS * times)
    ledger.record("a soak of four processes under random kills: nothing torn, lost or falsely listed", kept, control)
