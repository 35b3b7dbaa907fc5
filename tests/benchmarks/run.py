"""Run persistkit, a bare loop of the same system calls and the neighbours, alternately, and print the medians.

    python tests/benchmarks/run.py

Everything is compared within one run: absolute figures belong to a machine, ratios travel. See ``--help``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

try:
    from extras import import_block, listing_block
    from report import plot, tables
    from rounds import Block, Setting, fresh_directory, main_block
except ModuleNotFoundError as error:
    sys.exit(f"{error}: the benchmarks need persistkit with its extra `bench`: pip install '.[bench]'")

_TMPFS = Path("/dev/shm")  # noqa: S108 - a memory disk is what is measured; each run makes its own folder in it
_MAX_BYTES = 64 * 1024 * 1024
# A sync of a disk takes milliseconds, a save without it microseconds.
_FEWER_WITH_FSYNC = 10


def arguments_of(command: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--items", type=int, default=10_000, help="values per round, at most 64 MiB of them; with fsync a tenth")
    add("--rounds", type=int, default=7, help="rounds; the medians are taken over them (default 7)")
    add("--size", type=int, nargs="+", default=[1024, 1024 * 1024], metavar="BYTES", help="sizes of a value")
    add("--where", nargs="+", choices=["tmpfs", "disk"], default=["tmpfs", "disk"])
    add("--fsync", nargs="*", choices=["off", "on"], default=["off", "on"], help="default, and without words: both")
    add("--disk-dir", type=Path, default=Path(), help="a folder on the disk to measure (default: here)")
    add("--listing", type=int, metavar="KEYS", help="also list so many keys: of one template, and file paths")
    add("--import", action="store_true", dest="imports", help="also the time of the import")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--plot", type=Path, metavar="FILE", help="draw the medians as a PNG, and again as FILE-dark.png")
    add("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(command)
    counts = [options.items, options.rounds, *options.size, *([options.listing] if options.listing is not None else [])]
    if min(counts) < 1:
        parser.error("--items, --rounds, --size and --listing take whole numbers from 1")
    # Before anything is measured: a run takes many minutes.
    folders = [options.disk_dir] if "disk" in options.where else []
    for folder in (*folders, *([options.plot.parent] if options.plot else [])):
        if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
            parser.error(f"{folder}: not a folder that can be written; --disk-dir and --plot need one")
    if options.plot and options.plot.suffix != ".png":
        parser.error(f"--plot draws a PNG; call it {options.plot.with_suffix('.png')}")
    return options


@contextmanager
def places(options: argparse.Namespace) -> Iterator[dict[str, Path]]:
    """Make a folder in each place to measure, and remove them afterwards."""
    parents = {"tmpfs": _TMPFS, "disk": options.disk_dir.absolute()}
    wanted = {where: parents[where] for where in dict.fromkeys(options.where)}
    if "tmpfs" in wanted and not os.access(_TMPFS, os.W_OK):
        print(f"{_TMPFS} cannot be written here: tmpfs is left out", file=sys.stderr)
        del wanted["tmpfs"]
    if not wanted:
        raise SystemExit("nowhere to measure; pass --where disk")
    with fresh_directory(next(iter(wanted.values()))) as first, fresh_directory(list(wanted.values())[-1]) as last:
        yield dict(zip(wanted, (first, last), strict=False))


async def measure(options: argparse.Namespace) -> list[Block]:
    """Return all blocks that were asked for."""
    blocks = []
    rounds, quiet = options.rounds, options.quiet
    with places(options) as folders:
        settings = product(folders, options.size, dict.fromkeys(options.fsync or ["off", "on"]))
        for where, size_bytes, fsync in settings:
            items = max(1, min(options.items // (_FEWER_WITH_FSYNC if fsync == "on" else 1), _MAX_BYTES // size_bytes))
            setting = Setting(where, size_bytes, fsync == "on", items)
            blocks.append(await main_block(setting, folders[where], rounds, quiet=quiet))
        first = next(iter(folders.values()))
        if options.listing is not None:
            blocks.append(await listing_block(options.listing, first, rounds, quiet=quiet))
        if options.imports:
            blocks.append(import_block(rounds, first, quiet=quiet))
    return blocks


def main(command: Sequence[str]) -> None:
    """Measure, print, and write what was asked for."""
    options = arguments_of(command)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folders are removed then too
    warnings.simplefilter("ignore")  # a neighbour's warnings say nothing about its speed
    gc.collect()
    gc.freeze()  # the modules of all contenders are no garbage: a collection should not walk them each time
    blocks = asyncio.run(measure(options))
    print(tables(blocks, markdown=options.markdown))
    if options.plot:
        plot(options.plot, blocks)


if __name__ == "__main__":
    main(sys.argv[1:])
