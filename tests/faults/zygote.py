"""Zygote: a process with everything imported, which forks a child for each deed, to be traced from its first call.

    python -m faults.zygote DESCRIPTOR

A line of JSON a message, over a socket, so that no message is one of the calls that are failed on purpose. The
pytest process asks; the child says who it is, waits for the word, carries the deed out and answers; the zygote adds
how the child ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import broken
from .broken import backend_of
from .deeds import DEEDS, perform

_MESSAGE_BYTES = 64 * 1024
# A deed that hangs is ended, which the tracer notices; well below what a test may take.
MOST_SECONDS = 60


class Messages:
    """Messages in JSON over one end of a pair of sockets."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: object) -> None:
        """Send one message."""
        self._connection.send(json.dumps(message).encode())

    def receive(self) -> Any:
        """Wait for one message; None at the end."""
        received = self._connection.recv(_MESSAGE_BYTES)
        return json.loads(received) if received else None


def serve(messages: Messages) -> None:
    """Fork a child for each request until the other end is closed."""
    warm_up()
    while request := messages.receive():
        child = os.fork()
        if child == 0:
            signal.alarm(MOST_SECONDS)
            _carry_out(messages, **request)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        messages.send({"ended": os.waitstatus_to_exitcode(status)})


def _carry_out(messages: Messages, deed: int, kind: str, base: str) -> None:
    with asyncio.Runner() as runner:
        # The loop's thread is there before the deed begins: one signal to each thread is one to the deed's.
        runner.run(asyncio.to_thread(int))
        backend = backend_of(getattr(broken, kind), base)
        messages.send({"pid": os.getpid()})
        messages.receive()
        outcome = perform(DEEDS[deed], backend, runner)
        if outcome.error == KeyboardInterrupt.__name__:
            # As asyncio.run does: an interrupt that comes twice leaves the deed's task amidst its cleaning up.
            with suppress(KeyboardInterrupt):
                runner.close()
        messages.send({"outcome": outcome.as_json()})
        # What is left to do belongs to Python, not to the deed.
        os._exit(0)


def warm_up() -> None:
    """Do everything once, so that no child imports anything."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        for number, deed in enumerate(DEEDS):
            base = Path(folder) / str(number)
            deed.prepare(base)
            perform(deed, backend_of(broken.Directory, base), runner)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(Messages(inherited))
