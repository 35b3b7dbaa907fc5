"""Connections to a Redis server: redis-py's own, whose calls all end at one deadline."""

from __future__ import annotations

import select
import time
from functools import cache
from typing import Any, Final, TypeAlias

from redis.exceptions import ResponseError

__all__ = ["Command", "answer_to", "answers_to", "limited"]

Command: TypeAlias = tuple[bytes | int, ...]

_ENDING: Final = ("shutdown", "close")


class _Limit:
    """When the call of a connection must have ended, whatever the server does."""

    deadline = 0.0

    def left_seconds(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _LimitedSocket:
    """A socket whose reads all end at one deadline: a timeout alone begins anew with every byte that drips in."""

    def __init__(self, plain: Any, limit: _Limit) -> None:
        self._plain = plain
        self._limit = limit

    def __getattr__(self, name: str) -> Any:
        if name not in _ENDING:
            self._plain.settimeout(self._limit.left_seconds())
        return getattr(self._plain, name)


class _LimitedConnection:
    """What is added to each of redis-py's three kinds of connections."""

    def __init__(self, **options: Any) -> None:
        self.limit = _Limit()
        self.is_reused = False
        self._readable = select.poll()
        super().__init__(**options)

    def _connect(self) -> _LimitedSocket:
        self.socket_timeout = self.socket_connect_timeout = self.limit.left_seconds()
        plain = super()._connect()  # type: ignore[misc]  # the connection's that it is mixed into
        self._readable.register(plain, select.POLLIN)
        return _LimitedSocket(plain, self.limit)

    def is_quiet(self) -> bool:
        """Tell whether nothing is to be read: a readable idle connection means that the server closed it."""
        return not self._readable.poll(0)


@cache
def limited(kind: type[Any]) -> Any:
    """Return a class of redis-py's connections with a ``limit``. Any: they are typed as what they are not."""
    return type(kind.__name__, (_LimitedConnection, kind), {})


def answer_to(connection: Any, command: Command) -> Any:
    """Send a command; return the answer."""
    connection.send_command(*command)
    return connection.read_response()


def answers_to(connection: Any, commands: list[Command]) -> list[Any]:
    """Send several commands at once; return their answers, a refusal of the server as an exception."""
    connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
