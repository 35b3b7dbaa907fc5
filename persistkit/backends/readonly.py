"""ReadOnlyBackend: any backend with its writes refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, Never

from persistkit.backend import BlockingCore, Entry, PersistenceBackend, Reader, Writer
from persistkit.errors import ReadOnlyError
from persistkit.operations import BytesLike, Items

__all__ = ["ReadOnlyBackend", "refusal"]

_CORE_READS: Final = frozenset(
    [
        "batch_load",
        "change_token",
        "entries",
        "exists",
        "key_count",
        "list_keys",
        "load",
        "load_buffer",
        "load_filename",
        "open_reader",
    ]
)
# What some engines offer beyond the interface, and that only reads.
_MORE_READS: Final = frozenset(["base_dir", "fsync", "load_filename", "path_for"])


class ReadOnlyBackend(PersistenceBackend):
    """Reads go to the wrapped backend; every write raises ``ReadOnlyError`` before any I/O.

    Example:
        >>> import asyncio
        >>> from persistkit import MemoryPersistenceBackend
        >>> asyncio.run(ReadOnlyBackend(MemoryPersistenceBackend()).delete("run:1"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        persistkit.errors.ReadOnlyError: delete 'run:1': MemoryPersistenceBackend() was opened read only; ...
    """

    def __init__(self, backend: PersistenceBackend) -> None:
        self._backend = backend

    def __repr__(self) -> str:
        return f"ReadOnlyBackend({self._backend!r})"

    def __getattr__(self, name: str) -> Any:
        if name in _MORE_READS:
            return getattr(self._backend, name)
        raise AttributeError(f"a read-only {type(self).__name__} has no {name!r}")

    @property
    def blocking_core(self) -> BlockingCore | None:
        """The wrapped backend's core, its writes refused."""
        core = self._backend.blocking_core
        return None if core is None else _ReadOnlyCore(core, repr(self._backend))

    async def save(self, key: str, value: BytesLike) -> None:  # noqa: ARG002
        """Refuse."""
        self._refuse(f"save {key!r}")

    async def delete(self, key: str) -> None:
        """Refuse."""
        self._refuse(f"delete {key!r}")

    async def batch_save(self, items: Items) -> None:
        """Refuse."""
        self._refuse(f"batch_save of {len(dict(items)):,} keys")

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Refuse."""
        self._refuse(f"batch_delete of {len(list(keys)):,} keys")

    def open_writer(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Refuse."""
        self._refuse(f"open_writer {key!r}")

    async def check(self, *, repair: bool = False) -> list[Any]:
        """Look for problems; repairing them is refused."""
        if repair:
            self._refuse("check with repair=True")
        findings: list[Any] = await self._backend.check()  # type: ignore[attr-defined]  # engines that have one
        return findings

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        return await self._backend.load(key)

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        return await self._backend.batch_load(keys)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over the entries of the wrapped backend."""
        async for entry in self._backend.entries(prefix):
            yield entry

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted."""
        return await self._backend.list_keys(prefix)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``."""
        return await self._backend.exists(key)

    async def key_count(self) -> int:
        """Return how many values are stored."""
        return await self._backend.key_count()

    def open_reader(self, key: str) -> AbstractAsyncContextManager[Reader | None]:
        """Open the value of ``key`` for reading in chunks."""
        return self._backend.open_reader(key)

    async def change_token(self) -> object | None:
        """Return the wrapped backend's token."""
        return await self._backend.change_token()

    async def aclose(self) -> None:
        """Close the wrapped backend."""
        await self._backend.aclose()

    def _refuse(self, tried: str) -> Never:
        raise refusal(tried, repr(self._backend))


class _ReadOnlyCore:
    """A blocking core that hands out the reads of another one."""

    def __init__(self, core: BlockingCore, place: str) -> None:
        self._core = core
        self._place = place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._core, name) if name in _CORE_READS else partial(self._refuse, name)

    def _refuse(self, name: str, *arguments: object) -> Never:
        key = f" {arguments[0]!r}" if arguments and isinstance(arguments[0], str) else ""
        raise refusal(f"{name}{key}", self._place)


def refusal(tried: str, place: str) -> ReadOnlyError:
    """Return the error that says what was tried on what was opened read only."""
    return ReadOnlyError(f"{tried}: {place} was opened read only; to write, open it without read_only=True")
