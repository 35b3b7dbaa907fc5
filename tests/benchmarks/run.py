"""Run persistkit, a bare loop of the same system calls and the neighbours, alternately, and print the medians.

    python tests/benchmarks/run.py

Everything is compared within one run: absolute figures belong to a machine, ratios travel. See ``--help``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path

try:
    from rounds import fresh_directory, main_block, table
except ModuleNotFoundError as error:
    sys.exit(f"{error}: the benchmarks need persistkit with its extra `bench`: pip install '.[bench]'")

_TMPFS = Path("/dev/shm")  # noqa: S108 - a memory disk is what is measured; each run makes its own folder in it
_MAX_BYTES = 64 * 1024 * 1024
# A sync of a disk takes milliseconds, a save without it microseconds.
_FEWER_WITH_FSYNC = 10


def main(command: Sequence[str]) -> None:
    """Measure what is asked for, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--items", type=int, default=10_000, help="values per round, at most 64 MiB of them; with fsync a tenth")
    add("--rounds", type=int, default=7, help="rounds; the medians are taken over them (default 7)")
    add("--size", type=int, nargs="+", default=[1024, 1024 * 1024], metavar="BYTES", help="sizes of a value")
    add("--where", nargs="+", choices=["tmpfs", "disk"], default=["tmpfs", "disk"])
    add("--fsync", nargs="+", choices=["off", "on"], default=["off", "on"], help="default: both")
    add("--disk-dir", type=Path, default=Path(), help="a folder on the disk to measure (default: here)")
    options = parser.parse_args(command)
    if min(options.items, options.rounds, *options.size) < 1:
        parser.error("--items, --rounds and --size take whole numbers from 1")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folders are removed then too
    warnings.simplefilter("ignore")  # a neighbour's warnings say nothing about its speed
    gc.freeze()  # the modules of all contenders are no garbage: a collection should not walk them each time
    parents = {"tmpfs": _TMPFS, "disk": options.disk_dir.absolute()}
    for where, size_bytes, fsync in product(options.where, options.size, options.fsync):
        count = options.items // (_FEWER_WITH_FSYNC if fsync == "on" else 1)
        count = max(1, min(count, _MAX_BYTES // size_bytes))
        with fresh_directory(parents[where]) as folder:
            work = main_block(where, folder, size_bytes, count, fsync=fsync == "on", rounds=options.rounds)
            print(table(asyncio.run(work)), end="\n\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
