"""Compare stores with each engine's own blocking client used by hand, and awaited calls with one thread per call.

    python tests/benchmarks/clients.py

The servers come from the extra `test` and are started and stopped here. All sides take turns; ratios are of medians.
The client by hand writes and reads Python values with the same codec, and is as durable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any

import diskcache
import obstore
import psycopg
from redis import Redis
from rounds import Block, fresh_directory, keys_of_one_template, table
from tqdm import tqdm

import persistkit
from persistkit import FilePersistenceBackend, Store
from persistkit.formats import decode, encode
from persistkit.keys import filename_for

sys.path.append(str(Path(__file__).parent.parent))
import servers

BLOCKS = ("sqlite", "postgresql", "valkey", "s3", "files")
_TMPFS = Path("/dev/shm")  # noqa: S108 - a memory disk is what is measured
_VALUES = {
    "dict": {"loss": 0.25, "step": 7, "settings": {"rate": 0.1}},
    "text": "x" * 1024,
    "bytes": bytes(range(256)) * 4,
}
_TABLE = (
    "CREATE TABLE by_hand (key {0} PRIMARY KEY, size BIGINT NOT NULL, modified BIGINT NOT NULL, value {0} NOT NULL)"
)
_UPSERT = (
    "INSERT INTO by_hand VALUES ({0}, {0}, {0}, {0}) ON CONFLICT (key) DO UPDATE "
    "SET size = excluded.size, modified = excluded.modified, value = excluded.value"
)
_GATHERED = 64


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: values by key, Python's, or bytes until it is given the codec. Any: of both."""

    set: Callable[[str, Any], object]
    get: Callable[[str], Any]
    has: Callable[[str], bool]


def by_sqlite3(connection: sqlite3.Connection) -> Side:
    """Use the standard library, with the pragmas of persistkit."""
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", _TABLE.format("BLOB")):
        connection.execute(statement)
    upsert, select = _UPSERT.format("?"), "SELECT value FROM by_hand WHERE key = ?"
    return Side(
        lambda key, value: connection.execute(upsert, (key.encode(), len(value), time_ns() // 1000, value)),
        lambda key: connection.execute(select, (key.encode(),)).fetchone()[0],
        lambda key: connection.execute("SELECT 1 FROM by_hand WHERE key = ?", (key.encode(),)).fetchone() is not None,
    )


def by_psycopg(connection: psycopg.Connection[Any]) -> Side:
    """Use psycopg with binary parameters and results."""
    connection.execute("DROP TABLE IF EXISTS by_hand")
    statement: Any = _TABLE.format("BYTEA")  # Any: psycopg takes literal text only
    connection.execute(statement)
    upsert: Any = _UPSERT.format("%b")

    def found(column: str, key: str) -> Any:
        select: Any = f"SELECT {column} FROM by_hand WHERE key = %b"  # noqa: S608 - a name of ours
        return connection.execute(select, (key.encode(),), binary=True).fetchone()

    return Side(
        lambda key, value: connection.execute(upsert, (key.encode(), len(value), time_ns() // 1000, value)),
        lambda key: found("value", key)[0],
        lambda key: found("1", key) is not None,
    )


def by_redis(client: Redis) -> Side:
    """Use redis-py."""
    answered: Any = client  # Any: redis-py annotates every answer as a union of all
    return Side(
        lambda key, value: answered.set(f"by_hand:{key}", value),
        lambda key: answered.get(f"by_hand:{key}"),
        lambda key: bool(answered.exists(f"by_hand:{key}")),
    )


def by_obstore(store: Any) -> Side:
    """Use obstore's blocking functions."""
    return Side(
        lambda key, value: obstore.put(store, filename_for(key), value),
        lambda key: bytes(obstore.get(store, filename_for(key)).bytes()),
        lambda key: obstore.head(store, filename_for(key)) is not None,
    )


def opened(engine: str, folder: Path, stack: ExitStack) -> tuple[Store, dict[str, Side]]:
    """Start an engine; return a store on it and the sides it is compared with."""
    if engine == "sqlite":
        store = persistkit.open(f"sqlite:///{folder}/ours.db", create=True)
        connection = stack.enter_context(closing(sqlite3.connect(folder / "by-hand.db", isolation_level=None)))
        cache = stack.enter_context(diskcache.Cache(str(folder / "diskcache")))
        return store, {
            "by hand": with_codec(by_sqlite3(connection)),
            "diskcache": Side(cache.set, cache.get, cache.__contains__),
        }
    if engine == "postgresql":
        address = stack.enter_context(servers.postgresql()).address
        psycopg_connection = stack.enter_context(psycopg.connect(address, autocommit=True))
        return persistkit.open(address, create=True), {"by hand": with_codec(by_psycopg(psycopg_connection))}
    if engine == "valkey":
        address = stack.enter_context(servers.valkey()).address
        client = stack.enter_context(Redis.from_url(address.replace("valkey://", "redis://")))
        return persistkit.open(address), {"by hand": with_codec(by_redis(client))}
    server = stack.enter_context(servers.s3())
    options: Any = server.options  # Any: text only, and no option of the address
    store = persistkit.open(f"s3://{server.bucket}/ours", **options)
    return store, {"by hand": with_codec(by_obstore(server.client("by-hand")))}


def with_codec(client: Side) -> Side:
    """Return a client's operations on Python values, by persistkit's own codec."""
    return Side(
        lambda key, value: client.set(key, bytes(encode(value))), lambda key: decode(client.get(key)), client.has
    )


def measure_store(engine: str, options: argparse.Namespace, folder: Path) -> Iterator[Block]:
    """Measure set, get and in of each kind of value, and ``items`` against ``load_many``."""
    single = Block(f"{engine}: a store and the client by hand, {options.singles} calls per round")
    many = Block(f"{engine}: all {options.items:,} values", unit="µs per value")
    with ExitStack() as stack:
        store, sides = opened(engine, folder, stack)
        sides["persistkit"] = Side(store.__setitem__, store.__getitem__, store.__contains__)
        keys = keys_of_one_template(options.singles)
        for number in tqdm(range(options.rounds + 1), desc=single.title, unit="round"):
            block = single if number else Block("warm-up")
            for kind, value in _VALUES.items():
                for name, side in sides.items():
                    with block.timed(name, f"set {kind}", len(keys)):
                        for key in keys:
                            side.set(key, value)
                    with block.timed(name, f"get {kind}", len(keys)):
                        for key in keys:
                            side.get(key)
                    if side.get(keys[-1]) != value:
                        raise AssertionError(f"{name}: not the value that was stored")
            for name, side in sides.items():
                with block.timed(name, "in", len(keys)):
                    for key in keys:
                        side.has(key)
        store.clear()
        items = dict.fromkeys(keys_of_one_template(options.items), _VALUES["text"])
        store.update(items)
        readers: dict[str, Callable[[], object]] = {
            "load_many": lambda: store.load_many(items),
            "items": lambda: dict(store.items()),
        }
        for _ in tqdm(range(options.rounds), desc=many.title, unit="round"):
            for name, work in readers.items():
                with many.timed(name, "read", len(items)):
                    found = work()
                if found != items:
                    raise AssertionError(f"{name}: not the values that were stored")
        store.close()
    for operation in single.samples["by hand"]:
        single.yardstick[operation] = ("by hand", operation)
    many.yardstick["read"] = ("load_many", "read")
    yield single
    yield many


async def measure_awaited(where: str, parent: Path, options: argparse.Namespace, *, fsync: bool) -> Block:
    """Measure awaited saves and loads of 1 KiB, one by one and 64 at once, against a thread per call."""
    block = Block(f"awaited, {where}, fsync {'on' if fsync else 'off'}: files of 1,024 bytes")
    per_call = "one thread per call"
    with fresh_directory(parent) as folder:
        backend = FilePersistenceBackend(folder, fsync=fsync)
        engine, loop, value = backend.engine, asyncio.get_running_loop(), os.urandom(1024)

        async def save(key: str) -> None:
            await loop.run_in_executor(None, engine.save, key, value)

        async def load(key: str) -> bytes | None:
            return await loop.run_in_executor(None, engine.load, key)

        sides: dict[str, tuple[Callable[[str], Awaitable[Any]], Callable[[str], Awaitable[Any]]]] = {
            per_call: (save, load),
            "persistkit": (lambda key: backend.save(key, value), backend.load),
        }
        keys = keys_of_one_template(_GATHERED)
        for number in tqdm(range(options.rounds + 1), desc=block.title, unit="round"):
            kept = block if number else Block("warm-up")
            for name, (saves, loads) in sides.items():
                for operation, work in (("save", saves), ("load", loads)):
                    with kept.timed(name, f"gathered {operation}", len(keys)):
                        await asyncio.gather(*(work(key) for key in keys))
                    with kept.timed(name, operation, 16):
                        for key in keys[:16]:
                            await work(key)
    block.yardstick = {operation: (per_call, operation) for operation in block.samples[per_call]}
    return block


def main(command: Sequence[str]) -> None:
    """Measure what is asked for, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--singles", type=int, default=100, help="single calls per round (default 100)")
    parser.add_argument("--items", type=int, default=10_000, help="values that items() reads (default 10,000)")
    parser.add_argument("--rounds", type=int, default=7, help="the medians are taken over them (default 7)")
    parser.add_argument("--only", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    options = parser.parse_args(command)
    if min(options.singles, options.items, options.rounds) < 1:
        parser.error("--singles, --items and --rounds take whole numbers from 1")
    fast = _TMPFS if os.access(_TMPFS, os.W_OK) else Path()  # where the calls are measured, not the disk
    for name in options.only:
        blocks: list[Block] = []
        if name == "files":
            places = [("tmpfs", fast, False)] if fast != Path() else []
            for where, parent, fsync in (*places, ("disk", Path(), False), ("disk", Path(), True)):
                blocks += [asyncio.run(measure_awaited(where, parent, options, fsync=fsync))]
        else:
            with fresh_directory(fast) as folder:
                blocks += measure_store(name, options, folder)
        for block in blocks:
            print(table(block), end="\n\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
