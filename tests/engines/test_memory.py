"""The contract on values in memory, and on the three methods that make a backend."""

from __future__ import annotations

from persistkit import MemoryPersistenceBackend, PersistenceBackend
from persistkit.operations import BytesLike
from persistkit.testing import BackendContract


class DictBackend(PersistenceBackend):
    """Three methods over a dict: what the interface asks at least."""

    max_value_bytes = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep a copy of the value."""
        self.values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Return the value or None."""
        return self.values.get(key)

    async def delete(self, key: str) -> None:
        """Forget the value."""
        self.values.pop(key, None)


class TestMemory(BackendContract):
    """MemoryPersistenceBackend, read back through its blocking core."""

    def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return MemoryPersistenceBackend()

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Look into the core."""
        assert backend.blocking_core is not None
        return backend.blocking_core.load(key)


class TestThreeMethods(BackendContract):
    """A backend of save, load and delete, which cannot list."""

    tries_the_limit = True

    async def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return DictBackend()

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Look into the dict."""
        assert isinstance(backend, DictBackend)
        return backend.values.get(key)
