"""Opener: has values and directories opened by the program ``opening.py``, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

# The promise, for each step of a way. The seconds are the processor's: a loaded machine makes it wait, not work.
MOST_SECONDS = 2.0
MOST_MEGABYTES = 500.0
# What hangs takes no time of the processor.
PATIENCE_SECONDS = 60


class Opener:
    """The running program.

    Args:
        before: a command that runs the program.
    """

    def __init__(self, *before: str) -> None:
        program = [*before, sys.executable, str(Path(__file__).with_name("opening.py"))]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()

    def broken(
        self,
        way: str,
        key: str,
        base: Path,
        *,
        most_seconds: float = MOST_SECONDS,
        patience_seconds: int = PATIENCE_SECONDS,
    ) -> list[str]:
        """Open something in a way: what broke the promise. Prints what it took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([way, key, str(base), patience_seconds]), file=self._process.stdin, flush=True)
        outcome, seconds, megabytes = json.loads(self._process.stdout.readline())
        print(f"{way:14} {key:45} {seconds:6.2f} s {megabytes:7.0f} MB  {outcome[:100]}")
        broken = [f"{key}: {outcome}"] if outcome.startswith("violation") else []
        if seconds > most_seconds or megabytes > MOST_MEGABYTES:
            broken.append(f"{key}: {seconds:.1f} s of the processor, {megabytes:.0f} MB")
        return broken
