"""What an engine's client holds open: once for each event loop, closed with it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, Generic, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")

# What a forked child inherits is its parent's: closing it here would end the parent's conversation.
_inherited: Final[list[object]] = []


class PerLoop(Generic[T]):
    """One client for each event loop, opened when first asked for and closed when its loop ends.

    Clients with pools fail in a second event loop, and scripts and notebooks use several. Each client is held by an
    asynchronous generator of its loop: ``asyncio.run`` (and every runner that shuts generators down) closes it.
    A forked child opens clients of its own.

    Args:
        opened: returns a new client; called inside the loop, without awaiting.
        closed: closes a client, inside its loop.
    """

    def __init__(self, opened: Callable[[], T], closed: Callable[[T], Awaitable[None]]) -> None:
        self._opened = opened
        self._closed = closed
        self._forget()

    def get(self) -> T:
        """Return the client of the running event loop."""
        if self._process != os.getpid():
            _inherited.append(self._clients)
            self._forget()
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            with self._lock:
                for ended in [other for other in self._clients if other.is_closed()]:
                    del self._clients[ended]
            lifetime = self._lifetime()
            try:
                lifetime.__anext__().send(None)
            except StopIteration as first:
                held = first.value, lifetime
            else:
                raise AssertionError("opening a client does not wait")
            with self._lock:
                self._clients[loop] = held
        return held[0]

    async def aclose(self) -> None:
        """Close the client of the running event loop; those of other loops end with their loops."""
        with self._lock:
            held = self._clients.pop(asyncio.get_running_loop(), None)
        if held is not None and self._process == os.getpid():
            await held[1].aclose()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[T, None]]] = {}

    async def _lifetime(self) -> AsyncGenerator[T, None]:
        client = self._opened()
        process = os.getpid()
        try:
            yield client
        finally:
            if process == os.getpid():
                with self._lock:
                    self._clients.pop(asyncio.get_running_loop(), None)
                await self._closed(client)
