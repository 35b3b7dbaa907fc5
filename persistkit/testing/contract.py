"""Contract: what every part of the suite stands on: how a backend is made, and read back by a second route."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable

import pytest

from persistkit.backend import PersistenceBackend

__all__ = ["Contract", "lists"]


def __dir__() -> list[str]:
    return __all__


class Contract:
    """Makes the backend of each test, and checks what it holds."""

    pytestmark = pytest.mark.anyio

    def make_backend(self) -> PersistenceBackend | Awaitable[PersistenceBackend]:
        """Return an empty backend; override it, with or without ``async``."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend() to return an empty backend")

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Return the value of ``key`` by a route that is not ``load``, None when there is none; override it."""
        return await backend.load(key)

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, for which every backend is made."""
        return "asyncio"

    @pytest.fixture
    async def backend(self, anyio_backend: str) -> AsyncIterator[PersistenceBackend]:  # noqa: ARG002 - chooses the loop
        """Make the backend of one test, and close it."""
        backend = await self._made()
        yield backend
        await backend.aclose()

    async def _made(self) -> PersistenceBackend:
        made = self.make_backend()
        return await made if inspect.isawaitable(made) else made

    async def _check(self, backend: PersistenceBackend, key: str, value: bytes | None) -> None:
        assert await backend.load(key) == value
        assert await backend.exists(key) is (value is not None)
        assert await self.read_raw(backend, key) == value


def lists(backend: PersistenceBackend) -> bool:
    """Tell whether a backend says that it can list."""
    return type(backend).entries is not PersistenceBackend.entries
