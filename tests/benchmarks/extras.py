"""Extras: listings of many keys, and the time of the import."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter

from rounds import Block, fresh_directory, keys_of_one_template, timed
from tqdm import tqdm

from persistkit import FilePersistenceBackend, to_frame

__all__ = ["BASE_IMPORTS", "import_block", "listing_block"]

BASE_IMPORTS = "asyncio, logging, dataclasses"
_IMPORTS = {
    BASE_IMPORTS: f"import {BASE_IMPORTS}",
    "persistkit": "import persistkit",
    "persistkit, files used": "import persistkit; persistkit.FilePersistenceBackend",
}
# Where a machine has many files; their paths are keys as people write them.
_PLACES = ("/usr", sys.prefix, "/opt", "/var/lib", "/home")
_MAX_KEY_BYTES = 1024


def file_paths(count: int) -> list[str]:
    """Return paths of ``count`` files of this machine, fewer where it has fewer."""
    return list(dict.fromkeys(islice(_walk(), count)))


def _walk() -> Iterator[str]:
    for place in _PLACES:
        for folder, folders, names in os.walk(place):
            folders.sort()
            for name in sorted(names):
                path = f"{folder}/{name}"
                if path.isprintable() and len(path.encode()) <= _MAX_KEY_BYTES:
                    yield path


async def listing_block(count: int, parent: Path, rounds: int, *, quiet: bool) -> Block:
    """Measure ``list_keys`` and ``to_frame`` of many keys: of one template, and file paths."""
    block = Block("listing", f"listing {count:,} keys", unit="µs per key")
    for name, keys in (("one template", keys_of_one_template(count)), ("file paths", file_paths(count))):
        label = f"{name} ({len(keys):,})"
        with fresh_directory(parent) as directory:
            backend = FilePersistenceBackend(directory, fsync=False)
            await backend.batch_save(dict.fromkeys(keys, b"x"))
            for _ in tqdm(range(rounds), desc=f"listing {label}", unit="round", disable=quiet):
                sample, listed = await timed(backend.list_keys, len(keys))
                block.add(label, "list_keys", sample)
                if listed != sorted(keys):
                    raise AssertionError(f"list_keys of {label}: not the keys that were saved")
                del listed
                gc.collect()
                began = perf_counter()
                rows = len(to_frame(backend))
                block.add(label, "to_frame", (perf_counter() - began) * 1e6 / rows)
                if rows != len(keys):
                    raise AssertionError(f"to_frame of {label}: {rows} rows")
    return block


def import_block(rounds: int, parent: Path, *, quiet: bool) -> Block:
    """Measure the import of persistkit, and of what it is measured against, in fresh interpreters."""
    block = Block("import", "import in a fresh interpreter", unit="ms")
    block.yardstick = {"import": (BASE_IMPORTS, "import")}
    # What is installed is compiled: so is what is measured, whatever the environment says.
    with fresh_directory(parent) as compiled:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(compiled.absolute())}
        for number in tqdm(range(rounds + 1), desc="import", unit="round", disable=quiet):
            for name, statement in _IMPORTS.items():
                sample = _import_milliseconds(statement, environment)
                if number:  # the first one compiles
                    block.add(name, "import", sample)
    return block


def _import_milliseconds(statement: str, environment: dict[str, str]) -> float:
    script = f"from time import perf_counter as now; start = now()\n{statement}\nprint((now() - start) * 1e3)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    return float(run.stdout)
