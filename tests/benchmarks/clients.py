"""Run persistkit and each engine's own client, used by hand, alternately on real servers, and print the medians.

    python tests/benchmarks/clients.py

The servers come from the extra `test` and are started and stopped here. Ratios are persistkit's time over the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Any

from by_hand import Client, by_obstore, by_psycopg, by_redis, by_sqlite3
from report import tables
from rounds import Block, fresh_directory, keys_of_one_template, timed
from tqdm import tqdm

from persistkit import PersistenceBackend, to_frame
from persistkit.backends import open_backend
from persistkit.filenames import filename_for

sys.path.append(str(Path(__file__).parent.parent))
import servers

ENGINES = ("sqlite", "postgresql", "valkey", "s3")
_SINGLE_OPERATIONS = 100
_VALUE_BYTES = 1024


def arguments_of(command: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--items", type=int, default=1_000, help="values of 1 KiB in a batch (default 1,000)")
    add("--listing", type=int, default=100_000, metavar="KEYS", help="keys that are listed (default 100,000)")
    add("--rounds", type=int, default=7, help="rounds; the medians are taken over them (default 7)")
    add("--engine", nargs="+", choices=ENGINES, default=list(ENGINES))
    add("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args(command)
    if min(options.items, options.listing, options.rounds) < 1:
        parser.error("--items, --listing and --rounds take whole numbers from 1")
    return options


Opened = Callable[[], tuple[PersistenceBackend, AbstractAsyncContextManager[Client]]]


def opened(engine: str, folder: Path, stack: ExitStack) -> Opened:
    """Start the engine and return what opens both sides on fresh places of it."""
    if engine == "sqlite":
        return lambda: (open_backend(f"sqlite:///{folder}/ours.db", create=True), by_sqlite3(folder / "by-hand.db"))
    if engine == "postgresql":
        address = stack.enter_context(servers.postgresql())
        return lambda: (open_backend(address, create=True), by_psycopg(address))
    if engine == "valkey":
        address = stack.enter_context(servers.valkey())
        return lambda: (open_backend(address), by_redis(address))
    server = stack.enter_context(servers.s3())
    options: Any = server.options  # Any: text only, and no option of the address
    return lambda: (
        open_backend(f"s3://{server.bucket}/ours", **options),
        by_obstore(server.client("by-hand")),
    )


def by_persistkit(backend: PersistenceBackend) -> Client:
    """Return a backend's operations as those that are compared."""

    async def rows() -> list[Any]:
        return [entry async for entry in backend.entries()]

    return Client(backend.save, backend.load, backend.batch_save, backend.batch_load, backend.list_keys, rows)


def frame_of(rows: Sequence[Any]) -> Any:
    """Return rows of a listing as a table of the same columns, as one does by hand."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["key", "size", "modified"])
    filenames = [filename_for(key) for key in frame["key"]]
    frame["filename"] = pd.array(filenames, dtype="str")
    frame["hash"] = pd.array([filename[-20:-4] for filename in filenames], dtype="str")
    return frame


async def measure(engine: str, options: argparse.Namespace, folder: Path) -> list[Block]:
    """Return the blocks of one engine: operations on values, and listings."""
    operations = Block("engine", f"{engine}, values of {_VALUE_BYTES:,} bytes, batches of {options.items:,}")
    listings = Block("engine", f"{engine}, listing {options.listing:,} keys", unit="µs a key")
    with ExitStack() as stack:
        backend, client = opened(engine, folder, stack)()
        async with backend, client as by_hand:
            sides = {"by hand": by_hand, "persistkit": by_persistkit(backend)}
            items = dict.fromkeys(keys_of_one_template(options.items), os.urandom(_VALUE_BYTES))
            for number in tqdm(range(options.rounds + 1), desc=operations.title, unit="round"):
                for name, side in sides.items():
                    await _operate(operations if number else Block("warm-up", ""), name, side, items)
            for side in sides.values():
                await side.batch_save(dict.fromkeys(keys_of_one_template(options.listing), b"x"))
            for _ in tqdm(range(options.rounds), desc=listings.title, unit="round"):
                for name, side in sides.items():
                    await _list(listings, name, side, backend, options.listing)
    for block in (operations, listings):
        block.yardstick = {operation: ("by hand", operation) for operation in block.samples["by hand"]}
    return [operations, listings]


async def _operate(block: Block, name: str, side: Client, items: dict[str, bytes]) -> None:
    some = list(items.items())[:_SINGLE_OPERATIONS]

    async def save_each() -> None:
        for key, value in some:
            await side.save(key, value)

    async def load_each() -> list[bytes | None]:
        return [await side.load(key) for key, _ in some]

    block.add(name, "save", (await timed(save_each, len(some)))[0])
    block.add(name, "load", (await timed(load_each, len(some)))[0])
    block.add(name, "batch_save", (await timed(lambda: side.batch_save(items), len(items)))[0])
    sample, values = await timed(lambda: side.batch_load(list(items)), len(items))
    if values != list(items.values()):
        raise AssertionError(f"{name}: not the bytes that were saved")
    block.add(name, "batch_load", sample)


async def _list(block: Block, name: str, side: Client, backend: PersistenceBackend, count: int) -> None:
    async def to_table() -> Any:
        return await to_frame(backend) if name == "persistkit" else frame_of(await side.rows())

    for operation, work in (("list_keys", side.list_keys), ("entries", side.rows), ("to_frame", to_table)):
        sample, listed = await timed(work, count)
        if len(listed) != count:
            raise AssertionError(f"{name} {operation}: {len(listed):,} of {count:,} keys")
        block.add(name, operation, sample)


async def main(command: Sequence[str]) -> None:
    """Measure each engine, and print its tables."""
    options = arguments_of(command)
    warnings.simplefilter("ignore")
    for engine in options.engine:
        with fresh_directory(Path()) as folder:
            print(tables(await measure(engine, options, folder), markdown=options.markdown), end="\n\n", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
