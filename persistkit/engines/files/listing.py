"""Listing: which values a directory holds, and the keys that their filenames give back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import time_ns
from typing import Final

from persistkit.engines.files.owners import OwnerFiles
from persistkit.keys import candidates_as_found, is_filename, owner_filename_for

__all__ = ["change_token", "listing", "scan"]

_MOST_SCANS: Final = 4
_SAME_TICK_NANOSECONDS: Final = 20_000_000


def scan(root: str) -> tuple[list[os.DirEntry[str]], set[str]]:
    """Return the values' files, each once, and the names of the owner files.

    A directory that changes while it is read may show a file twice or, on tmpfs, where a rename gives it a new place,
    not at all. So it is read again, a few times at most, until it has not changed meanwhile.
    """
    files: dict[str, os.DirEntry[str]] = {}
    owner_names: set[str] = set()
    for _ in range(_MOST_SCANS):
        before = os.stat(root).st_mtime_ns  # noqa: PTH116
        missed = files
        with os.scandir(root) as found_files:
            # Other programs' files are dropped at once: a million of them would take a quarter of a gigabyte.
            found = [entry for entry in found_files if entry.name.endswith((".bin", ".key"))]
        owner_names.update([entry.name for entry in found if entry.name.endswith(".key")])
        files = {e.name: e for e in found if is_filename(e.name) and e.is_file(follow_symlinks=False)}
        for name, entry in missed.items():
            if name not in files and os.path.lexists(entry.path):
                files[name] = entry
        if os.stat(root).st_mtime_ns == before:  # noqa: PTH116
            break
    return list(files.values()), owner_names


def listing(root: str, owners: OwnerFiles) -> Iterator[tuple[os.DirEntry[str], str | None, bool]]:
    """Iterate over the values' files, with key and ambiguity: the owner's key, else the only or the first candidate."""
    files, owner_names = scan(root)
    owned: dict[str, str | None] = {}
    if owner_names:
        owned = {f.name: owners.owner_of(f.name)[0] for f in files if owner_filename_for(f.name) in owner_names}
    unowned: dict[str, os.DirEntry[str]] = {}
    for file in files:
        key = owned.get(file.name)
        if key is None:
            unowned[file.name] = file
        else:
            yield file, key, False
    for name, keys, complete in candidates_as_found(unowned):
        if len(keys) == 1 and complete:
            yield unowned[name], keys[0], False
            continue
        # An owner file precedes its value: one made since the scan is there now.
        key, unreadable = owners.owner_of(name)
        ambiguous = key is None and bool(keys) and not unreadable
        yield unowned[name], (keys[0] if ambiguous else key), ambiguous


def change_token(root: str) -> tuple[int, int, int | None]:
    """Return a token of the directory's time, which every rename and removal in it moves."""
    status = os.stat(root)  # noqa: PTH116
    # Two changes within one tick of the file system's clock leave the same time: a young time proves nothing.
    now = time_ns()
    young = now if abs(now - status.st_mtime_ns) < _SAME_TICK_NANOSECONDS else None
    return status.st_ino, status.st_mtime_ns, young
