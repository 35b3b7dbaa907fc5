"""Rounds: every contender in turn, each in a fresh directory, round after round, timed by operation."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from contenders import CONTENDERS, YARDSTICK, Contender, Operations
from tqdm import tqdm

__all__ = ["OPERATIONS", "Block", "Setting", "fresh_directory", "keys_of_one_template", "main_block", "timed"]

OPERATIONS = (
    "save", "load", "await save", "await load", "batch_save", "batch_load", "list_keys", "to_frame",
)  # fmt: skip
_SHARED = {"await save": "save", "batch_save": "save", "await load": "load", "batch_load": "load"}
_WARM_UP_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Setting:
    """What one block of the table was measured with."""

    where: str
    size_bytes: int
    fsync: bool
    items: int


@dataclass(slots=True)
class Block:
    """One table: microseconds per item, by contender and operation, one sample per round.

    ``yardstick`` maps an operation to the (contender, operation) that its ratios are taken against.
    """

    kind: str
    title: str
    unit: str = "µs per item"
    setting: Setting | None = None
    yardstick: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, contender: str, operation: str, sample: float) -> None:
        """Keep one sample."""
        self.samples.setdefault(contender, {}).setdefault(operation, []).append(sample)

    def median(self, contender: str, operation: str) -> float | None:
        """Return the median of a cell, or None where nothing was measured."""
        found = self.samples.get(contender, {}).get(operation)
        return median(found) if found else None

    def ratio(self, contender: str, operation: str) -> float | None:
        """Return the median of a cell over that of its yardstick, or None where there is none."""
        if operation not in self.yardstick:
            return None
        own, reference = self.median(contender, operation), self.median(*self.yardstick[operation])
        return own / reference if own and reference else None


@contextmanager
def fresh_directory(parent: Path) -> Iterator[Path]:
    """Make a new directory in ``parent`` and remove it, with all that is in it, afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="persistkit-bench-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def keys_of_one_template(count: int) -> list[str]:
    """Return keys as an agent writes them: step after step of some sessions."""
    return [f"loop:run-{number // 100:04d}:step:{number % 100}" for number in range(count)]


async def timed(work: Callable[[], Awaitable[Any]], count: int) -> tuple[float, Any]:
    """Return microseconds per item of ``work`` on ``count`` items, garbage collected before, and its result."""
    gc.collect()
    start = perf_counter()
    result = await work()
    return (perf_counter() - start) * 1e6 / count, result


async def main_block(setting: Setting, parent: Path, rounds: int, *, quiet: bool) -> Block:
    """Measure every contender on every operation it has."""
    fsync = "on" if setting.fsync else "off"
    title = f"{setting.where}, {setting.items:,} values of {setting.size_bytes:,} bytes, fsync {fsync}"
    block = Block("operations", title, setting=setting)
    block.yardstick = {operation: (YARDSTICK, _SHARED.get(operation, operation)) for operation in OPERATIONS[:6]}
    contenders = [contender for contender in CONTENDERS if contender.syncs or not setting.fsync]
    value = os.urandom(setting.size_bytes)
    await _measure_once(contenders, dict.fromkeys(keys_of_one_template(_WARM_UP_ITEMS), value), setting, parent)
    items = dict.fromkeys(keys_of_one_template(setting.items), value)
    for _ in tqdm(range(rounds), desc=title, unit="round", disable=quiet):
        for name, operation, sample in await _measure_once(contenders, items, setting, parent):
            block.add(name, operation, sample)
    return block


async def _measure_once(
    contenders: list[Contender], items: dict[str, bytes], setting: Setting, parent: Path
) -> list[tuple[str, str, float]]:
    found = []
    for contender in contenders:
        for series in (_blocking, _awaited, _batches):
            with fresh_directory(parent) as directory, contender.open(directory, setting.fsync) as operations:
                found += [(contender.name, *cell) async for cell in series(operations, items)]
    return found


async def _blocking(operations: Operations, items: dict[str, bytes]) -> AsyncIterator[tuple[str, float]]:
    save, load = operations.save, operations.load
    if save is None or load is None:
        return

    async def save_all() -> None:
        for key, value in items.items():
            save(key, value)

    async def load_all() -> list[Any]:
        return [load(key) for key in items]

    yield "save", (await timed(save_all, len(items)))[0]
    sample, values = await timed(load_all, len(items))
    _check(items, values)
    yield "load", sample


async def _awaited(operations: Operations, items: dict[str, bytes]) -> AsyncIterator[tuple[str, float]]:
    save, load = operations.await_save, operations.await_load
    if save is None or load is None:
        return

    async def save_all() -> None:
        for key, value in items.items():
            await save(key, value)

    async def load_all() -> list[Any]:
        return [await load(key) for key in items]

    yield "await save", (await timed(save_all, len(items)))[0]
    sample, values = await timed(load_all, len(items))
    _check(items, values)
    yield "await load", sample


async def _batches(operations: Operations, items: dict[str, bytes]) -> AsyncIterator[tuple[str, float]]:
    save, load, list_keys, to_frame = (
        operations.batch_save, operations.batch_load, operations.list_keys, operations.to_frame,
    )  # fmt: skip
    count = len(items)
    if save is not None and load is not None:
        yield "batch_save", (await timed(lambda: save(items), count))[0]
        sample, values = await timed(lambda: load(list(items)), count)
        _check(items, values)
        yield "batch_load", sample
        del values
    elif operations.save is not None:
        for key, value in items.items():
            operations.save(key, value)
    for name, listing in (("list_keys", list_keys), ("to_frame", to_frame)):
        if listing is not None:
            sample, listed = await timed(listing, count)
            if len(listed) != count:
                raise AssertionError(f"{name} shows {len(listed)} of {count} items")
            yield name, sample


def _check(items: dict[str, bytes], values: list[Any]) -> None:
    """See that every value came back whole: a figure for a load that loads nothing would be worthless."""
    for (key, expected), value in zip(items.items(), values, strict=True):
        if len(value) != len(expected) or bytes(value) != expected:
            raise AssertionError(f"load {key!r}: not the bytes that were saved")
