"""Tracing: a deed in a process of its own, under strace, which records its system calls, fails one, or kills at one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from persistkit.backends.directory import Directory

from .deeds import DEEDS, Deed, Outcome
from .zygote import Messages

# A call unknown on this architecture is passed over: that is what the question mark says.
_CALLS = (
    "?openat,?creat,?write,?pwrite64,?read,?fsync,?fdatasync,?close,?rename,?renameat,?renameat2,?link,?linkat,"
    "?unlink,?unlinkat,?utimensat,?flock,?fstat,?newfstatat,?statx,?stat,?lstat,?getdents64,?lseek,?ftruncate"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of the deed: its name, its number among the calls of that name in its thread, its text."""

    name: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Traced:
    """What a traced deed did: its answer, None when it was killed, and its calls in the directory, in order."""

    outcome: Outcome | None
    calls: list[Call]
    injected: bool


class Tracer:
    """Carries deeds out under strace, each in a fresh child of one zygote."""

    def __init__(self, messages: Messages, folder: Path) -> None:
        self._messages = messages
        self._log = folder / "strace"

    def run(self, deed: Deed, kind: type[Directory], base: Path, inject: str = "") -> Traced:
        """Carry ``deed`` out in ``base`` with strace's injection ``inject``, such as ``fsync:error=EIO:when=1``."""
        self._messages.send({"deed": DEEDS.index(deed), "kind": kind.__name__, "base": str(base)})
        pid = self._messages.receive()["pid"]
        command = ["strace", "-f", "-y", "-s", "0", "-o", str(self._log), "-e", f"trace={_CALLS}"]
        injection = ["-e", f"inject={inject}"] if inject else []
        with subprocess.Popen([*command, *injection, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            assert "attached" in (said := strace.stderr.readline()), said
            self._messages.send("begin")
            answer = self._messages.receive()
            outcome = None
            if "outcome" in answer:
                outcome = Outcome(**answer["outcome"] | {"errnos": tuple(answer["outcome"]["errnos"])})
                self._messages.receive()
            else:
                killed = "signal=KILL" in inject and answer["ended"] == -signal.SIGKILL
                assert killed, f"{deed.name} under {inject!r} died by itself: {answer}"
        log = self._log.read_text(errors="replace")
        return Traced(
            outcome, _calls_of(log, base), injected="(INJECTED)" in log or "--- SIG" in log or outcome is None
        )


@contextmanager
def tracer(folder: Path) -> Iterator[Tracer]:
    """Run a zygote, and the deeds it is asked for, while the block runs."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tests = str(Path(__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [sys.executable, "-m", "faults.zygote", str(theirs.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment) as zygote:
        theirs.close()
        try:
            yield Tracer(Messages(ours), folder)
        finally:
            ours.close()
            zygote.wait(30)


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


def disorder(calls: Sequence[Call], base: Path) -> list[str]:
    """Return what a power cut could have torn or lost, by the order of the calls alone.

    A file is synced before it gets its name, a claim is durable before its value, and at the end the directory is.
    """
    unsynced: set[str] = set()
    volatile: set[str] = set()
    found = []
    for call in calls:
        paths = re.findall(r'[<"](/[^>"]*)[>"]', call.text)
        if call.name in ("write", "pwrite64"):
            unsynced.add(paths[0])
        elif call.name in ("fsync", "fdatasync"):
            unsynced.discard(paths[0])
            volatile = set() if paths[0] == str(base) else volatile
        elif call.name.startswith(("rename", "link")):
            source, target = (path for path in paths if path != str(base))
            if source in unsynced:
                found.append(f"{Path(target).name} gets its name before its bytes are synced")
            if target.removesuffix(".bin") + ".key" in volatile:
                found.append(f"{Path(target).name} is there before its claim is durable")
            if target.endswith(".key") and target.removesuffix(".key") + ".bin" in volatile:
                found.append(f"{Path(target).name} comes after its value")
            volatile.add(target)
        elif call.name.startswith("unlink") and paths[-1].endswith(".bin"):
            volatile.add(paths[-1])
    return found + [f"{Path(path).name} is acknowledged before the directory is synced" for path in volatile]
