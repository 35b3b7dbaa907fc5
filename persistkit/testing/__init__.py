"""EngineContract and BackendContract: the tests every engine and every backend passes, those shipped here and yours."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import TypeVar

from persistkit.backend import PersistenceBackend
from persistkit.background import BackendEngine
from persistkit.engine import Engine
from persistkit.testing.awaiting import AwaitingContract, backend_of
from persistkit.testing.listings import ListingsContract
from persistkit.testing.sharing import SharingContract

__all__ = ["BackendContract", "EngineContract"]

T = TypeVar("T")


class EngineContract(ListingsContract, SharingContract):
    """The contract of ``Engine`` as tests, for an engine of your own.

    Subclass it in a test module, under a name that begins with ``Test``, and say how to make an empty engine; pytest
    runs the rest. Give ``read_raw`` where there is a second way to what was stored (the file, the row): then each
    value saved is also read back by it. What a test needs (a folder, a server) comes by a fixture of the subclass
    with ``autouse=True``. For full explanations of failures, write
    ``pytest.register_assert_rewrite("persistkit.testing")`` in ``conftest.py``.

    Attributes:
        tries_the_limit: set it to True where ``max_value_bytes`` states a limit of at most 8 GiB: then a value above
            it is tried too. A test says when it ought to be set.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> class TestMemory(EngineContract):
        ...     def make_engine(self) -> Engine:
        ...         return MemoryEngine()
    """

    def make_engine(self) -> Engine:
        """Return an empty engine; override it."""
        raise NotImplementedError(f"{type(self).__name__} must override make_engine() to return an empty engine")

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Return the value of ``key`` by a route that is not ``load``, None when there is none; override it."""
        return engine.load(key)

    def _open(self) -> Engine:
        return self.make_engine()

    def _stored(self, engine: Engine, key: str) -> bytes | None:
        return self.read_raw(engine, key)


class BackendContract(AwaitingContract, ListingsContract, SharingContract):
    """The contract of ``PersistenceBackend`` as tests, for a backend of your own: use it as ``EngineContract``.

    The tests of an engine run over the backend's methods on the background event loop, the others await them.
    Listing is put to the test where the backend overrides ``entries``; elsewhere the tests see that it says so.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> class TestMemory(BackendContract):
        ...     def make_backend(self) -> PersistenceBackend:
        ...         return MemoryPersistenceBackend()
    """

    def make_backend(self) -> PersistenceBackend | Awaitable[PersistenceBackend]:
        """Return an empty backend; override it, with or without ``async``."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend() to return an empty backend")

    def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | Awaitable[bytes | None] | None:
        """Return the value of ``key`` by a route that is not ``load``; override it, with or without ``async``."""
        return backend.load(key)

    def _open(self) -> Engine:
        return BackendEngine(_awaited(self.make_backend()))

    def _stored(self, engine: Engine, key: str) -> bytes | None:
        return _awaited(self.read_raw(backend_of(engine), key))

    def _lists(self, engine: Engine) -> bool:
        return type(backend_of(engine)).entries is not PersistenceBackend.entries


def _awaited(given: T | Awaitable[T]) -> T:
    if not inspect.isawaitable(given):
        return given

    async def wait() -> T:
        return await given

    return asyncio.run(wait())
