"""Listing: which values a directory holds, and the keys that their filenames give back."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from time import time_ns
from typing import Final

from persistkit.engines.files.owners import OwnerFiles
from persistkit.keys import candidates_as_found, is_filename, owner_filename_for

__all__ = ["change_token", "keys_of", "listing", "scan"]

_MOST_SCANS: Final = 4
_SAME_TICK_NANOSECONDS: Final = 20_000_000


def scan(root: str) -> tuple[dict[str, os.DirEntry[str]], set[str]]:
    """Return the values' files by name, and the names of the owner files.

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
    return files, owner_names


def listing(root: str, owners: OwnerFiles) -> Iterator[tuple[os.DirEntry[str], str | None, bool]]:
    """Iterate over the values' files, each with its key and ambiguity as ``keys_of`` gives them."""
    files, owner_names = scan(root)
    for name, key, ambiguous in keys_of(files, owner_names, owners):
        yield files[name], key, ambiguous


def keys_of(
    names: Iterable[str], owner_names: Collection[str], owners: OwnerFiles
) -> Iterator[tuple[str, str | None, bool]]:
    """Iterate over filenames, with key and ambiguity: the owner's key, else the only or the first candidate."""
    unowned: list[str] = []
    for name in names:
        key = owners.owner_of(name)[0] if owner_names and owner_filename_for(name) in owner_names else None
        if key is None:
            unowned.append(name)
        else:
            yield name, key, False
    for name, keys, complete in candidates_as_found(unowned):
        if len(keys) == 1 and complete:
            yield name, keys[0], False
            continue
        # An owner file precedes its value: one made since the directory was read is there now.
        key, unreadable = owners.owner_of(name)
        ambiguous = key is None and bool(keys) and not unreadable
        yield name, (keys[0] if ambiguous else key), ambiguous


def change_token(root: str) -> tuple[int, int, int | None]:
    """Return a token of the directory's time, which every rename and removal in it moves."""
    status = os.stat(root)  # noqa: PTH116
    # Two changes within one tick of the file system's clock leave the same time: a young time proves nothing.
    now = time_ns()
    young = now if abs(now - status.st_mtime_ns) < _SAME_TICK_NANOSECONDS else None
    return status.st_ino, status.st_mtime_ns, young
