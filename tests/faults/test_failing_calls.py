"""The Nth call into the system fails: recorded calls of ``os``, without root, on every platform."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from .mutants import KEPT, MUTANTS, engine_of
from .operations import OPERATIONS, Operation, judge, perform
from .report import Report, Trials

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)
MODES = ("once", "for good", "once, and nothing can be removed afterwards")
CALLS = ("open", "write", "read", "fsync", "close", "replace", "unlink", "link", "utime", "fstat", "lstat", "scandir")


class Calls:
    """Counts the calls of each function, and lets the Nth one of one function fail, in one of the modes."""

    def __init__(self, function: str = "", at: int = 0, error: int = 0, mode: str = MODES[0]) -> None:
        self.made: Counter[str] = Counter()
        self.hit = False
        self._aim = function, at, error
        self._mode = mode
        self._lock = threading.Lock()

    def make(self, function: str) -> None:
        """Count a call, and fail when it is its turn."""
        aimed, at, error = self._aim
        with self._lock:
            self.made[function] += 1
            number = self.made[function]
        if function == aimed and (number == at or (self._mode == MODES[1] and number > at)):
            self.hit = True
            raise OSError(error, os.strerror(error))
        if function == "unlink" and self._mode == MODES[2] and self.hit:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Stand between the code and the system while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._standing_before(name, getattr(os, name)))
            # Nothing loses power here: what a sync costs would be most of the time.
            patch.setattr(os, "fsync", self._standing_before("fsync", lambda _: None))
            patch.setattr(fcntl, "fcntl", self._standing_before("fcntl", fcntl.fcntl))
            yield

    def _standing_before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def standing(*arguments: Any, **options: Any) -> Any:
            self.make(name)
            return call(*arguments, **options)

        return standing


def fail_each_call(operation: Operation, mutant: str, folder: Path, runner: asyncio.Runner) -> Trials:
    """Fail every call that the operation makes: once with each error, then in the other modes."""
    # An operation that removes values fails itself when nothing can be removed.
    modes = MODES if None not in operation.after.values() else MODES[:2]
    ways = [(modes[0], error) for error in ERRORS] if mutant == KEPT else [(modes[0], errno.EIO)]
    others = cycle(ERRORS)
    trials = Trials()
    numbers = count()

    def attempt(calls: Calls, error: int | None, *, temps: bool, told: bool = False) -> list[str]:
        base = folder / f"{mutant}{next(numbers)}"
        operation.prepare(base)
        engine = engine_of(mutant, base)
        with calls.in_place(), MUTANTS[mutant]():
            outcome = perform(operation, engine, runner)
        return judge(operation, base, outcome, error, temps=temps, told=told)

    recorded = Calls()
    trials.add(*attempt(recorded, None, temps=False))
    for name, made in recorded.made.items():
        for at in range(1, made + 1):
            for mode, error in [*ways, *((mode, next(others)) for mode in modes[1:])]:
                if name == "fcntl" and error == errno.EACCES:
                    continue  # it means that another process has the lock, and is waited for
                calls = Calls(name, at, error, mode)
                temps = name == "unlink" or mode == MODES[2]
                violations = attempt(calls, error, temps=temps, told=name == "fsync")
                trials.add(*(f"{name} {at} fails {mode}: {text}" for text in violations))
                assert calls.hit
    return trials


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a disk takes most of the time, and nothing is learned from it here."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is new and nobody else's
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as made:
        yield Path(made)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_when_any_call_fails(operation: Operation, folder: Path, report: Report) -> None:
    """Whatever call fails, and however: the old value or the new one, an error with its reason, nothing left."""
    with asyncio.Runner() as runner:
        kept = fail_each_call(operation, KEPT, folder, runner)
        controls = [fail_each_call(operation, mutant, folder, runner) for mutant in operation.mutants]
    report.record(
        f"any call of `os` fails in a {operation.name}: old or new, whole, and the reason told", kept, *controls
    )
