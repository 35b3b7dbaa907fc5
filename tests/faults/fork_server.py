"""A fork server: one process with everything imported, which forks a child for each task of a test.

    [COMMAND ...] python -m faults.fork_server DESCRIPTOR MODULE ...

A child can be traced from its first call on, may do harm to itself, and is measured. Messages are JSON over a socket,
so that no message is one of the system calls that are failed on purpose. With a command such as ``unshare --mount``
the server, and so every child, has mounts of its own, which vanish with it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import isgeneratorfunction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .report import Trials

_MESSAGE_BYTES: Final = 128 * 1024
# What hangs is ended, well within the time that a test may take.
PATIENCE_SECONDS: Final = 60
MOUNTS_OF_ITS_OWN: Final = ("unshare", "--mount", "--propagation", "private")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        result: what its task returned, as plain JSON; None when it died.
        exit_code: 0, or minus the number of the signal that ended it.
        processor_seconds: of the whole child.
        megabytes: the most memory it had.
    """

    result: Any
    exit_code: int
    processor_seconds: float
    megabytes: float


class ForkServer:
    """The running server; a context manager.

    Args:
        modules: imported by the server; a module's ``warm_up()`` is called once, if it has one.
        command: starts the server, such as ``unshare --mount``.
    """

    def __init__(self, *modules: str, command: tuple[str, ...] = ()) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MESSAGE_BYTES)
        tests = str(Path(__file__).parent.parent)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
        program = [*command, sys.executable, "-m", "faults.fork_server", str(theirs.fileno()), *modules]
        with theirs:
            self._process = subprocess.Popen(program, pass_fds=[theirs.fileno()], env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait(PATIENCE_SECONDS)

    def run(self, task: Callable[..., Any], *arguments: object, patience_seconds: int = PATIENCE_SECONDS) -> Ended:
        """Have a child carry out ``task``, a function of a module, with arguments that are plain JSON or paths.

        A generator function prepares, yields, and yields the result when the child is let begin.
        """
        self.fork(task, *arguments, patience_seconds=patience_seconds)
        return self.finish()

    def fork(self, task: Callable[..., Any], *arguments: object, patience_seconds: int = PATIENCE_SECONDS) -> int:
        """Fork a child that waits for ``finish``; return its process id."""
        plain = [str(argument) if isinstance(argument, Path) else argument for argument in arguments]
        _send(self._socket, [task.__module__, task.__qualname__, plain, patience_seconds])
        return int(self._received()["pid"])

    def finish(self) -> Ended:
        """Let the child begin, and wait until it has ended."""
        _send(self._socket, "begin")
        result = None
        while "exit_code" not in (message := self._received()):
            result = message["result"]
        return Ended(result, **message)

    def _received(self) -> Any:
        message = _receive(self._socket)
        assert message is not None, f"the fork server died: {self._process.wait(PATIENCE_SECONDS)}"
        return message


def trials_of(task: Callable[..., dict[str, Any]], *arguments: object, command: tuple[str, ...] = ()) -> Trials:
    """Return the trials of one task, a function that returns them as JSON, in a fork server of its own."""
    with ForkServer(task.__module__, command=command) as server:
        ended = server.run(task, *arguments, patience_seconds=100)
    assert ended.result is not None, ended
    return Trials(**ended.result)


def _send(connection: socket.socket, message: object) -> None:
    connection.send(json.dumps(message).encode())


def _receive(connection: socket.socket) -> Any:
    received = connection.recv(_MESSAGE_BYTES)
    return json.loads(received) if received else None


def _serve(connection: socket.socket) -> None:
    while request := _receive(connection):
        child = os.fork()
        if child == 0:
            try:
                _carry_out(connection, *request)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            os._exit(1)
        _, status, usage = os.wait4(child, 0)
        _send(
            connection,
            {
                "exit_code": os.waitstatus_to_exitcode(status),
                "processor_seconds": usage.ru_utime + usage.ru_stime,
                "megabytes": usage.ru_maxrss * 1024 / 1e6,
            },
        )


def _carry_out(connection: socket.socket, module: str, name: str, arguments: list[Any], patience: int) -> None:
    task = getattr(import_module(module), name)
    signal.alarm(patience)
    prepared = None
    if isgeneratorfunction(task):
        next(prepared := task(*arguments))
    _send(connection, {"pid": os.getpid()})
    _receive(connection)
    result = task(*arguments) if prepared is None else next(prepared)
    _send(connection, {"result": result})
    # What is left to do belongs to Python, not to the task.
    os._exit(0)


if __name__ == "__main__":
    for imported in map(import_module, sys.argv[2:]):
        getattr(imported, "warm_up", lambda: None)()
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        _serve(inherited)
