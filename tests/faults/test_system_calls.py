"""Every system call of a write, seen by strace: failed, killed at, interrupted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from . import operations
from .fork_server import ForkServer
from .mutants import KEPT
from .operations import OPERATIONS, OWNED, Operation, judge
from .report import Report, Trials
from .requirements import require, require_kernel
from .tracing import Tracer, points_of

pytestmark = pytest.mark.faults

ERRORS = ("ENOSPC", "EIO", "EACCES", "EMFILE")
WRITES = [operation for operation in OPERATIONS if operation.writes]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracer]:
    """Operations under strace."""
    require("strace")
    require_kernel("to trace a process", "strace", "-o", "/dev/null", "true")
    with ForkServer(operations.__name__) as server:
        yield Tracer(server, tmp_path_factory.mktemp("traced"))


def break_each_call(operation: Operation, mutant: str, folder: Path, traced: Tracer, how: list[str]) -> Trials:
    """Break every call of the operation in each way: ``signal=KILL`` before it, or an error in its place."""
    trials, bases = Trials(), (folder / f"{mutant}{number}" for number in count())

    def attempt(call: str, number: int, way: str) -> None:
        operation.prepare(base := next(bases))
        run = traced.run(operation, mutant, base, f"{call}:{way.format(number)}")
        if run.injected:
            error = getattr(errno, way.split(":")[0].removeprefix("error="), None)
            temps, told = run.outcome is None or "unlink" in call, error is not None and call == "fsync"
            violations = judge(operation, base, run.outcome, error, temps=temps, told=told)
            trials.add(*(f"{call} {way.format(number)}: {violation}" for violation in violations))

    operation.prepare(base := next(bases))
    recorded = traced.run(operation, mutant, base)
    trials.add(*judge(operation, base, recorded.outcome, temps=False))
    for call, number in points_of(recorded.calls):
        for way in how:
            if not (
                call == "fcntl" and "EACCES" in way
            ):  # it means that another process has the lock, and is waited for
                attempt(call, number, way)
    return trials


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_when_any_system_call_fails(operation: Operation, tmp_path: Path, traced: Tracer, report: Report) -> None:
    """Whatever system call fails: the old value or the new one, an error with its reason, nothing left."""
    errors = ERRORS if operation in WRITES else ("EIO", "EMFILE")
    ways = [f"error={error}:when={{}}{more}" for error in errors for more in ("", "+")]
    kept = break_each_call(operation, KEPT, tmp_path, traced, ways)
    controlled = {"Copies", "IgnoresErrors", "IgnoresFsyncFailure", "TreatsErrorAsMissing"} & {*operation.mutants}
    controls = [
        break_each_call(operation, mutant, tmp_path, traced, ["error=EIO:when={}"]) for mutant in sorted(controlled)
    ]
    report.record(
        f"any system call fails in a {operation.name}: old or new, whole, and the reason told", kept, *controls
    )


@pytest.mark.parametrize("operation", WRITES, ids=lambda operation: operation.name)
def test_killed_before_any_system_call(operation: Operation, tmp_path: Path, traced: Tracer, report: Report) -> None:
    """Killed before each call in turn: the old value or the new one, whole, and the next calls work."""
    kept = break_each_call(operation, KEPT, tmp_path, traced, ["signal=KILL:when={}"])
    mutant = "WritesOwnerFileLast" if operation.before == {OWNED: None} else "Copies"
    control = break_each_call(operation, mutant, tmp_path, traced, ["signal=KILL:when={}"])
    report.record(f"kill -9 before any system call of a {operation.name}: old or new, whole", kept, control)


@pytest.mark.parametrize("operation", WRITES, ids=lambda operation: operation.name)
def test_interrupted_at_any_system_call(operation: Operation, tmp_path: Path, traced: Tracer, report: Report) -> None:
    """Ctrl-C, or a notebook's interrupt, during each call in turn: the old value or the new one, nothing left."""
    kept = break_each_call(operation, KEPT, tmp_path, traced, ["signal=INT:when={}"])
    mutant = "LeavesTempFiles" if operation.name == "stream" else "Copies"
    control = break_each_call(operation, mutant, tmp_path, traced, ["signal=INT:when={}"])
    report.record("interrupted (SIGINT) at any system call: old or new, whole, nothing left", kept, control)
