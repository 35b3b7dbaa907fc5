"""AsyncStore: the typed values of a store, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic

from persistkit.backend import EngineBackend
from persistkit.batches import paged
from persistkit.views import Errors, T

if TYPE_CHECKING:
    from persistkit.store import Store

__all__ = ["AsyncStore"]

# A page hides what a thread costs, about 100 microseconds, and can be cancelled soon.
_PAGE: Final = 128


class AsyncStore(Generic[T]):
    """What a store does, for asynchronous code: the same values, the same errors, no wait in the event loop.

    Calls run in worker threads, or at once where the engine does not block; a small value that the system has in its
    cache is loaded without a thread. A cancelled call that has not begun is dropped; one that has begun is waited for,
    so nothing changes afterwards. May be used from several event loops. Everything else that a store can do (tables,
    copies) is ``await asyncio.to_thread(store.to_frame)``.

    Args:
        store: what the calls go to, as ``store.aio`` has it.

    Example:
        >>> import asyncio, persistkit
        >>> async def main(store):
        ...     await store.aio.set("run/1", {"loss": 0.25})
        ...     return await store.aio.load("run/1")
        >>> asyncio.run(main(persistkit.open("memory:")))
        {'loss': 0.25}
    """

    def __init__(self, store: Store[T]) -> None:
        self._store = store
        self._backend = EngineBackend(store.engine)

    def __repr__(self) -> str:
        return f"{self._store!r}.aio"

    async def load(self, key: str, format: str | None = None, *, max_bytes: int | None = None) -> Any:  # noqa: A002
        """Return the value of ``key``, as ``Store.load``; a missing key is a ``KeyError``."""
        data = self._store.engine.load_cached(key)
        if data is not None:
            return self._store._value(key, data, format, max_bytes)
        return await self._backend._run(partial(self._store.load, key, format, max_bytes=max_bytes))

    async def get(self, key: str, default: Any = None) -> T | Any:
        """Return the value of ``key``, its bytes where it is damaged, or ``default`` where there is none."""
        data = self._store.engine.load_cached(key)
        if data is not None:
            return self._store._value_or_bytes(key, data)
        return await self._backend._run(self._store.get, key, default)

    async def set(self, key: str, value: T) -> None:
        """Store ``value`` under ``key``, as ``store[key] = value``."""
        await self._backend._run(self._store.__setitem__, key, value)

    async def delete(self, key: str) -> None:
        """Remove ``key``, as ``del store[key]``; a missing key is a ``KeyError``."""
        await self._backend._run(self._store.__delitem__, key)

    async def contains(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, as ``key in store``."""
        return await self._backend._run(self._store.__contains__, key)

    async def add(self, key: str, value: T) -> bool:
        """Store ``value`` if nothing is stored under ``key``, in one atomic step; tell whether it was stored."""
        return await self._backend._run(self._store.add, key, value)

    async def modify(self, key: str, function: Callable[[T], T], *default: T) -> T:
        """Store what ``function`` makes of the value, as ``Store.modify``; it is called in a worker thread."""
        return await self._backend._run(self._store.modify, key, function, *default)

    async def keys(self, prefix: str = "", *, keys: Iterable[str] | None = None, glob: str | None = None) -> list[str]:
        """Return the known keys, as ``Store.keys``."""
        return await self._backend._run(partial(self._store.keys, prefix, keys=keys, glob=glob))

    async def load_many(
        self, keys: Iterable[str] | None = None, errors: Errors = "raise", *, prefix: str = "", glob: str | None = None
    ) -> dict[str, T]:
        """Return values by key, as ``Store.load_many``."""
        load = partial(self._store.load_many, keys, errors, prefix=prefix, glob=glob, progress=False)
        return await self._backend._run(load)

    async def items(
        self, errors: Errors = "raise", *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
    ) -> AsyncIterator[tuple[str, T]]:
        """Iterate over keys with their values, as ``Store.items``: ``async for key, value in store.aio.items()``."""
        pages = paged(self._store.items(errors, keys=keys, prefix=prefix, glob=glob), _PAGE)
        while page := await self._backend._run(next, pages, None):
            for item in page:
                yield item

    async def update(self, other: Any = (), /, **more: T) -> None:
        """Store many values, as ``Store.update``: all are checked before the first is stored."""
        await self._backend._run(partial(self._store.update, other, progress=False, **more))

    async def aclose(self) -> None:
        """Give back what the engine and this view hold; using them again opens them anew."""
        await self._backend.aclose()
