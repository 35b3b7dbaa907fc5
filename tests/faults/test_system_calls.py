"""Every system call of a write, seen by strace: failed, killed at, and in the right order."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from persistkit.backends.directory import Directory

from .broken import Copying, Deaf, Disturbed, Forgetful, Hopeful, Late, WithoutDirectorySync, WithoutFileSync
from .deeds import CLAIMED, DEEDS, NEW, Deed, judge
from .ledger import Ledger, Trials
from .requirements import require, require_kernel
from .tracing import Tracer, disorder, points_of, tracer

pytestmark = pytest.mark.faults

ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE")
WRITES = [deed for deed in DEEDS if deed.before != deed.after]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """Deeds under strace."""
    require("strace")
    require_kernel("to trace a process", "strace", "-o", "/dev/null", "true")
    with tracer(tmp_path_factory.mktemp("traced")) as ready:
        yield ready


def break_each_call(deed: Deed, kind: type[Directory], folder: Path, traced: Tracer, how: list[str]) -> Trials:
    """Break every call of the deed in each way: ``signal=KILL`` before it, or an error in its place."""
    trials, bases = Trials(), (folder / f"{kind.__name__}{number}" for number in count())

    def attempt(call: str, number: int, way: str) -> None:
        deed.prepare(base := next(bases))
        run = traced.run(deed, kind, base, f"{call}:{way.format(number)}")
        if run.injected:
            error = getattr(errno, way.split(":")[0].removeprefix("error="), None)
            temps, told = run.outcome is None or "unlink" in call, error is not None and call == "fsync"
            violations = judge(deed, base, run.outcome, error, temps=temps, told=told)
            trials.add(*(f"{call} {way.format(number)}: {violation}" for violation in violations))

    deed.prepare(base := next(bases))
    recorded = traced.run(deed, kind, base)
    assert judge(deed, base, recorded.outcome, temps=False) == []
    for call, number in points_of(recorded.calls):
        for way in how:
            attempt(call, number, way)
    return trials


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_when_any_system_call_fails(deed: Deed, tmp_path: Path, traced: Tracer, ledger: Ledger) -> None:
    """Whatever system call fails: the old value or the new one, an error with its reason, nothing left."""
    errors = ERRORS if deed in WRITES else ("EIO", "EMFILE")
    ways = [f"error={error}:when={{}}{more}" for error in errors for more in ("", "+")]
    kept = break_each_call(deed, Directory, tmp_path, traced, ways)
    broken = (Copying, Deaf, *({Hopeful} & set(deed.broken))) if deed in WRITES else deed.broken
    controls = [break_each_call(deed, kind, tmp_path, traced, ["error=EIO:when={}"]) for kind in broken]
    ledger.record(f"any system call fails in a {deed.name}: old or new, whole, and the reason told", kept, *controls)


@pytest.mark.parametrize("deed", WRITES, ids=lambda deed: deed.name)
def test_killed_before_any_system_call(deed: Deed, tmp_path: Path, traced: Tracer, ledger: Ledger) -> None:
    """Killed before each call in turn: the old value or the new one, whole, and the next calls work."""
    kept = break_each_call(deed, Directory, tmp_path, traced, ["signal=KILL:when={}"])
    broken = Late if deed.before == {CLAIMED: None} else Copying
    control = break_each_call(deed, broken, tmp_path, traced, ["signal=KILL:when={}"])
    ledger.record(f"kill -9 before any system call of a {deed.name}: old or new, whole", kept, control)


@pytest.mark.parametrize("deed", WRITES, ids=lambda deed: deed.name)
def test_interrupted_at_any_system_call(deed: Deed, tmp_path: Path, traced: Tracer, ledger: Ledger) -> None:
    """Ctrl-C, or a notebook's interrupt, during each call in turn: the old value or the new one, nothing left."""
    kept = break_each_call(deed, Directory, tmp_path, traced, ["signal=INT:when={}"])
    broken = {"stream": Forgetful, "batch": Disturbed}.get(deed.name, Copying)
    control = break_each_call(deed, broken, tmp_path, traced, ["signal=INT:when={}"])
    ledger.record("interrupted (SIGINT) at any system call: old or new, whole, nothing left", kept, control)


@pytest.mark.parametrize("deed", WRITES, ids=lambda deed: deed.name)
def test_the_order_of_system_calls(deed: Deed, tmp_path: Path, traced: Tracer, ledger: Ledger) -> None:
    """Bytes are synced before they get a name, a claim before its value, the directory before the answer."""

    def look(kind: type[Directory]) -> Trials:
        deed.prepare(base := tmp_path / kind.__name__)
        trials = Trials()
        trials.add(*disorder(traced.run(deed, kind, base).calls, base))
        return trials

    broken: list[type[Directory]] = [WithoutDirectorySync]
    if NEW in deed.after.values():
        broken.append(WithoutFileSync)
    if deed.after == {CLAIMED: NEW} and deed.before == {CLAIMED: None}:
        broken.append(Late)
    promise = "write < fsync < rename < fsync of the directory, and a claim before its value: the calls in order"
    ledger.record(promise, look(Directory), *map(look, broken))
