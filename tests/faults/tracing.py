"""Tracing: an operation in a child under strace, which records its system calls, fails one, or kills at one."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .fork_server import ForkServer
from .operations import OPERATIONS, Operation, Outcome, perform_in_child

# A call unknown on this architecture is passed over: that is what the question mark says.
_CALLS = (
    "?openat,?creat,?write,?pwrite64,?read,?fsync,?fdatasync,?close,?rename,?renameat,?renameat2,?link,?linkat,"
    "?unlink,?unlinkat,?utimensat,?fcntl,?fstat,?newfstatat,?statx,?stat,?lstat,?getdents64,?lseek,?ftruncate"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of the operation: its name, its number among the calls of that name in its thread, its text."""

    name: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Traced:
    """What a traced operation did: its answer, None when it was killed, and its calls in the directory, in order."""

    outcome: Outcome | None
    calls: list[Call]
    injected: bool


class Tracer:
    """Carries operations out under strace, each in a fresh child of the fork server."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._server = server
        self._log = folder / "strace"

    def run(self, operation: Operation, mutant: str, base: Path, inject: str = "") -> Traced:
        """Carry ``operation`` out in ``base``, with an injection of strace such as ``fsync:error=EIO:when=1``."""
        pid = self._server.fork(perform_in_child, OPERATIONS.index(operation), mutant, base)
        command = ["strace", "-f", "-y", "-s", "0", "-o", str(self._log), "-e", f"trace={_CALLS}"]
        injection = ["-e", f"inject={inject}"] if inject else []
        with subprocess.Popen([*command, *injection, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            assert "attached" in (said := strace.stderr.readline()), said
            ended = self._server.finish()
        if ended.exit_code:
            killed = "signal=KILL" in inject and ended.exit_code == -signal.SIGKILL
            assert killed, f"{operation.name} under {inject!r} died by itself: {ended}"
        log = self._log.read_text(errors="replace")
        outcome = None if ended.result is None else Outcome.from_json(ended.result)
        injected = "(INJECTED)" in log or "--- SIG" in log or outcome is None
        return Traced(outcome, _calls_of(log, base), injected)


def _calls_of(log: str, base: Path) -> list[Call]:
    """Return the calls that concern the directory, each numbered as strace's ``when`` counts: in its thread."""
    made: Counter[tuple[str, str]] = Counter()
    calls = []
    for line in log.splitlines():
        # A call that another thread interrupted is resumed on a later line, which is not a second call.
        if (found := _LINE.match(line)) is None:
            continue
        place = found["pid"], found["name"]
        made[place] += 1
        if str(base) in found["rest"]:
            calls.append(Call(found["name"], made[place], found["rest"]))
    return calls


def points_of(calls: Sequence[Call]) -> list[tuple[str, int]]:
    """Return every (call, number) of a trace, each once."""
    return list(dict.fromkeys((call.name, call.number) for call in calls))
