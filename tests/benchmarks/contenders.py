"""Contenders: persistkit, the bare loop it is measured against, and its neighbours, behind one set of operations."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import diskcache
from key_value.aio.stores.disk import DiskStore
from obstore.store import LocalStore as ObjectStore
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore as ArrayStore

from persistkit import FilePersistenceBackend

__all__ = ["CONTENDERS", "YARDSTICK", "Contender", "Operations"]

T = TypeVar("T")
R = TypeVar("R")

# What a contender offers on one directory, by name, as ``rounds.py`` calls it. Any: some of it is awaited.
Operations: TypeAlias = dict[str, Callable[..., Any]]

YARDSTICK = "bare loop"
# As many single operations in flight as persistkit's own default for batches.
_IN_FLIGHT = 64
# diskcache puts large values in files beside its database and never syncs those: durable values stay in the database.
_NO_FILES_BESIDE = 2**31


@dataclass(frozen=True, slots=True)
class Contender:
    """A name in the table, and how to open it on a directory: ``open(directory, fsync)``.

    ``syncs`` tells whether the contender leaves the choice of fsync; without it, it runs with fsync off only.
    """

    name: str
    open: Callable[[Path, bool], AbstractContextManager[Operations]]
    syncs: bool


async def gathered(work: Callable[[T], Awaitable[R]], arguments: Sequence[T]) -> list[R]:
    """Return the results of ``work`` on every argument, in order, a bounded number in flight."""
    results: list[Any] = [None] * len(arguments)
    waiting = iter(enumerate(arguments))

    async def drain() -> None:
        for position, argument in waiting:
            results[position] = await work(argument)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(_IN_FLIGHT, len(arguments))):
            tasks.create_task(drain())
    return results


@contextmanager
def open_bare(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The yardstick: the system calls of an atomic save and of a load, and nothing else: no checks, no hashed names."""
    root = str(directory)

    def save(name: str, value: bytes) -> None:
        temp = f"{root}/.{name}.tmp"
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, value)
        if fsync:
            os.fsync(descriptor)
        os.close(descriptor)
        os.replace(temp, f"{root}/{name}")
        if fsync:
            descriptor = os.open(root, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def load(name: str) -> bytes:
        descriptor = os.open(f"{root}/{name}", os.O_RDONLY)
        value = os.read(descriptor, os.fstat(descriptor).st_size)
        os.close(descriptor)
        return value

    async def list_keys() -> list[str]:
        return os.listdir(root)

    yield {"save": save, "load": load, "list_keys": list_keys}


@contextmanager
def open_persistkit(directory: Path, fsync: bool) -> Iterator[Operations]:
    """Files by persistkit: the engine in plain calls, its backend awaited."""
    backend = FilePersistenceBackend(directory, fsync=fsync)
    engine = backend.engine

    yield {
        "save": engine.save,
        "load": engine.load,
        "await save": backend.save,
        "await load": backend.load,
        "batch_save": backend.batch_save,
        "batch_load": backend.batch_load,
        "list_keys": backend.list_keys,
    }


@contextmanager
def open_obstore(directory: Path, fsync: bool) -> Iterator[Operations]:  # noqa: ARG001 - obstore never syncs
    """The LocalStore of obstore; its batches are its awaited calls, gathered."""
    store = ObjectStore(directory)

    async def load(key: str) -> object:
        return await (await store.get_async(key)).bytes_async()

    async def list_keys() -> list[str]:
        return [found["path"] for page in store.list() for found in page]

    yield {
        "save": store.put,
        "load": lambda key: store.get(key).bytes(),
        "await save": store.put_async,
        "await load": load,
        "batch_save": lambda items: gathered(lambda item: store.put_async(*item), list(items.items())),
        "batch_load": lambda keys: gathered(load, keys),
        "list_keys": list_keys,
    }


def open_cache(directory: Path, fsync: bool) -> diskcache.Cache:
    """Return a diskcache that evicts nothing, and syncs every commit or none."""
    durable = {"sqlite_synchronous": 2, "disk_min_file_size": _NO_FILES_BESIDE}
    settings = durable if fsync else {"sqlite_synchronous": 0}
    return diskcache.Cache(str(directory), eviction_policy="none", size_limit=2**40, **settings)


@contextmanager
def open_diskcache(directory: Path, fsync: bool) -> Iterator[Operations]:
    """The diskcache package, which has no await; a batch is one transaction."""
    with closing(open_cache(directory, fsync)) as cache:

        async def batch_save(items: dict[str, bytes]) -> None:
            with cache.transact():
                for key, value in items.items():
                    cache.set(key, value)

        async def batch_load(keys: list[str]) -> list[Any]:
            with cache.transact():
                return [cache.get(key) for key in keys]

        async def list_keys() -> list[Any]:
            return list(cache.iterkeys())

        yield {
            "save": cache.set,
            "load": cache.get,
            "batch_save": batch_save,
            "batch_load": batch_load,
            "list_keys": list_keys,
        }


@contextmanager
def open_key_value(directory: Path, fsync: bool) -> Iterator[Operations]:
    """py-key-value's DiskStore; it stores JSON only, so bytes go in as base64, and it cannot list."""
    with closing(open_cache(directory, fsync)) as cache:
        store = DiskStore(disk_cache=cache)

        def packed(value: bytes) -> dict[str, str]:
            return {"data": base64.b64encode(value).decode()}

        async def load(key: str) -> bytes:
            found = await store.get(key)
            return base64.b64decode(found["data"]) if found else b""

        async def batch_load(keys: list[str]) -> list[bytes]:
            return [base64.b64decode(found["data"]) if found else b"" for found in await store.get_many(keys)]

        yield {
            "await save": lambda key, value: store.put(key, packed(value)),
            "await load": load,
            "batch_save": lambda items: store.put_many(list(items), [packed(value) for value in items.values()]),
            "batch_load": batch_load,
        }


@contextmanager
def open_zarr(directory: Path, fsync: bool) -> Iterator[Operations]:  # noqa: ARG001 - zarr never syncs
    """The LocalStore of zarr; its batches are its awaited calls, gathered."""
    store = ArrayStore(directory)
    buffer = default_buffer_prototype().buffer

    async def load(key: str) -> bytes:
        found = await store.get(key)
        return found.to_bytes() if found else b""

    def load_blocking(key: str) -> bytes:
        found = store.get_sync(key)
        return found.to_bytes() if found else b""

    async def list_keys() -> list[str]:
        return [key async for key in store.list()]

    yield {
        "save": lambda key, value: store.set_sync(key, buffer.from_bytes(value)),
        "load": load_blocking,
        "await save": lambda key, value: store.set(key, buffer.from_bytes(value)),
        "await load": load,
        "batch_save": lambda items: gathered(
            lambda item: store.set(item[0], buffer.from_bytes(item[1])), list(items.items())
        ),
        "batch_load": lambda keys: gathered(load, keys),
        "list_keys": list_keys,
    }


CONTENDERS = (
    Contender(YARDSTICK, open_bare, syncs=True),
    Contender("persistkit", open_persistkit, syncs=True),
    Contender("obstore", open_obstore, syncs=False),
    Contender("diskcache", open_diskcache, syncs=True),
    Contender("py-key-value", open_key_value, syncs=True),
    Contender("zarr", open_zarr, syncs=False),
)
