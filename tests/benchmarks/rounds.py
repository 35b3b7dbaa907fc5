"""Rounds: every contender in turn, each in a fresh directory, round after round; the medians as tables."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from contenders import CONTENDERS, YARDSTICK, Contender, Operations
from tqdm import tqdm

__all__ = ["Block", "fresh_directory", "keys_of_one_template", "main_block", "table"]

# Each group in a directory of its own, so that no save finds the value already there.
_GROUPS = (
    ("save", "load", "list_keys"),
    ("await save", "await load"),
    ("batch_save", "batch_load"),
)
# The operation of the yardstick that each is compared with.
_COMPARED = {
    "save": "save", "load": "load", "await save": "save", "await load": "load", "batch_save": "save",
    "batch_load": "load",
}  # fmt: skip
_WARM_UP_ITEMS = 10


@dataclass(slots=True)
class Block:
    """One table: microseconds per item, by contender and operation, one sample per round.

    ``yardstick`` maps an operation to the (contender, operation) that its ratios are taken against.
    """

    title: str
    unit: str = "µs per item"
    yardstick: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @contextmanager
    def timed(self, contender: str, operation: str, count: int) -> Iterator[None]:
        """Keep one sample: the time of the block, divided by the count of what it does."""
        began = perf_counter()
        yield
        sample = (perf_counter() - began) * 1e6 / count
        self.samples.setdefault(contender, {}).setdefault(operation, []).append(sample)

    def cell(self, contender: str, operation: str) -> str:
        """Return the median, and its ratio to that of the yardstick; nothing where nothing was measured."""
        if operation not in self.samples[contender]:
            return ""
        found = median(self.samples[contender][operation])
        if operation not in self.yardstick:
            return f"{found:,.1f}"
        other, compared = self.yardstick[operation]
        return f"{found:,.1f} ({found / median(self.samples[other][compared]):.2f})"


def table(block: Block) -> str:
    """Return a block as text: one row per contender, one column per operation."""
    columns = list(dict.fromkeys(operation for measured in block.samples.values() for operation in measured))
    rows = [["", *columns], *([name, *(block.cell(name, column) for column in columns)] for name in block.samples)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [f"{block.title} ({block.unit}; in brackets the ratio to the yardstick)"]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


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


async def main_block(where: str, parent: Path, size_bytes: int, count: int, *, fsync: bool, rounds: int) -> Block:
    """Measure every contender on every operation it has."""
    title = f"{where}, {count:,} values of {size_bytes:,} bytes, fsync {'on' if fsync else 'off'}"
    block = Block(title, yardstick={ours: (YARDSTICK, theirs) for ours, theirs in _COMPARED.items()})
    contenders = [contender for contender in CONTENDERS if contender.syncs or not fsync]
    items = dict.fromkeys(keys_of_one_template(count), os.urandom(size_bytes))
    await _measure_once(Block("warm-up"), contenders, dict(list(items.items())[:_WARM_UP_ITEMS]), parent, fsync)
    for _ in tqdm(range(rounds), desc=title, unit="round"):
        await _measure_once(block, contenders, items, parent, fsync)
    return block


async def _measure_once(
    block: Block, contenders: Sequence[Contender], items: dict[str, bytes], parent: Path, fsync: bool
) -> None:
    for contender in contenders:
        for group in _GROUPS:
            with fresh_directory(parent) as directory, contender.open(directory, fsync) as operations:
                for name in group:
                    if name in operations:
                        work = _all_of(name, operations, items)
                        gc.collect()
                        with block.timed(contender.name, name, len(items)):
                            result = await work()
                        _check(contender.name, name, items, result)


def _all_of(name: str, operations: Operations, items: dict[str, bytes]) -> Callable[[], Awaitable[Any]]:
    """Return what is timed: the operation on every item."""
    operation = operations[name]

    async def save() -> None:
        for key, value in items.items():
            operation(key, value)

    async def load() -> list[Any]:
        return [operation(key) for key in items]

    async def await_save() -> None:
        for key, value in items.items():
            await operation(key, value)

    async def await_load() -> list[Any]:
        return [await operation(key) for key in items]

    loops = {"save": save, "load": load, "await save": await_save, "await load": await_load}
    loops |= {"batch_save": lambda: operation(items), "batch_load": lambda: operation(list(items))}
    return loops.get(name, operation)


def _check(contender: str, name: str, items: dict[str, bytes], result: Any) -> None:
    """See that every value came back whole: a figure for a load that loads nothing would be worthless."""
    if name.endswith("load"):
        right = [bytes(value) for value in result] == list(items.values())
    else:
        right = name.endswith("save") or len(result) == len(items)
    if not right:
        raise AssertionError(f"{contender}: {name} gives something else than what was saved")
