"""MemoryPersistenceBackend: values in this process's memory."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Never

from persistkit.backend import BlockingCore, BlockingReader, BlockingWriter, Entry, PersistenceBackend
from persistkit.operations import BytesLike, Items, check_value

__all__ = ["MemoryPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


class MemoryPersistenceBackend(PersistenceBackend):
    """Values in memory: for tests, and for results that need not outlive the process.

    Nothing is left after exit; a forked child's copy goes its own way, and pickling is refused. Otherwise the
    contract of ``PersistenceBackend``; keys never collide here.

    Example:
        >>> import asyncio
        >>> backend = MemoryPersistenceBackend()
        >>> asyncio.run(backend.save("run:1", b"done"))
        >>> asyncio.run(backend.list_keys())
        ['run:1']
    """

    def __init__(self) -> None:
        self._core = _Values()

    def __repr__(self) -> str:
        return "MemoryPersistenceBackend()"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"pickle {self!r}: its values are in the memory of this process alone; "
            "for workers, open a directory: persistkit.open('results', create=True)"
        )

    @property
    def blocking_core(self) -> BlockingCore:
        """The dictionary behind the interface."""
        return self._core

    async def save(self, key: str, value: BytesLike) -> None:
        """Store a copy of ``value`` under ``key``."""
        self._core.save(key, value)

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        return self._core.load(key)

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; no error when there is none."""
        self._core.delete(key)

    async def batch_save(self, items: Items) -> None:
        """Store a copy of every value."""
        self._core.batch_save(dict(items))

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        return self._core.batch_load(list(keys))

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``."""
        self._core.batch_delete(list(keys))

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over what was stored when the iteration began."""
        for entry in self._core.entries(prefix):
            yield entry

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted."""
        return self._core.list_keys(prefix)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``."""
        return self._core.exists(key)

    async def key_count(self) -> int:
        """Return how many values are stored."""
        return self._core.key_count()

    async def change_token(self) -> object:
        """Return the number of changes so far."""
        return self._core.change_token()


class _Values:
    """Values and their times by key. Every method is one step for other threads: single dict operations."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, datetime]] = {}
        self._changes = 0

    def save(self, key: str, value: BytesLike) -> None:
        self._values[key] = bytes(value), datetime.now(UTC)
        self._changes += 1

    def load(self, key: str) -> bytes | None:
        stored = self._values.get(key)
        return None if stored is None else stored[0]

    load_buffer = load

    def delete(self, key: str) -> None:
        self._values.pop(key, None)
        self._changes += 1

    def batch_save(self, items: dict[str, BytesLike]) -> None:
        for key, value in items.items():
            self.save(key, value)

    def batch_load(self, keys: list[str]) -> list[bytes | None]:
        return [self.load(key) for key in keys]

    def batch_delete(self, keys: list[str]) -> None:
        for key in keys:
            self.delete(key)

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key, (value, modified) in self._values.copy().items():
            if key.startswith(prefix):
                yield Entry(key, len(value), modified)

    def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self._values.copy() if key.startswith(prefix))

    def exists(self, key: str) -> bool:
        return key in self._values

    def key_count(self) -> int:
        return len(self._values)

    @contextmanager
    def open_reader(self, key: str) -> Iterator[BlockingReader | None]:
        value = self.load(key)
        yield None if value is None else _MemoryReader(value)

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BlockingWriter]:
        chunks = _MemoryWriter(key)
        yield chunks
        self.save(key, chunks.getbuffer())

    def change_token(self) -> object:
        return self._changes


class _MemoryWriter(io.BytesIO):
    """A value being written into memory, in chunks."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def write(self, chunk: BytesLike, /) -> int:  # type: ignore[override]  # narrower, as every backend's writer
        return super().write(check_value(self._key, chunk))


class _MemoryReader(io.BytesIO):
    """A value in memory, read in chunks."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self.size = len(value)

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size)
