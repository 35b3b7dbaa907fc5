"""The engines behind the interface, one file each, and which address leads to which."""

from __future__ import annotations

import difflib
import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from persistkit.backend import PersistenceBackend
from persistkit.errors import StorageError

__all__ = ["open_backend"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=//|[^/\\]|$)")
_SCHEMES: Final = ("file:", "memory:")


def open_backend(address: str | PathLike[str], *, create: bool = False, **options: Any) -> PersistenceBackend:
    """Return the backend an address leads to: a path, a ``file:`` URL (percent-encoded) or ``memory:``.

    Args:
        address: where the values are.
        create: make the directory if it does not exist.
        options: handed to the backend, such as ``fsync=False``.

    Raises:
        StorageError: nothing is there, or the scheme is not known; the message says what is near.

    Example:
        >>> open_backend("memory:")
        MemoryPersistenceBackend()
    """
    if isinstance(address, PathLike):
        return _open_directory(Path(address), create, options)
    found = _SCHEME.match(address)
    # A directory may be called anything, `run:1` too: what exists as a path is a path.
    if found is None or (found[1] not in ("file", "memory") and Path(address).exists()):
        return _open_directory(Path(fspath(address)), create, options)
    scheme, rest = found[1].lower(), address[found.end() :]
    if scheme == "file":
        return _open_directory(Path(unquote(rest.removeprefix("//localhost").removeprefix("//"))), create, options)
    if scheme == "memory":
        from persistkit.backends.memory import MemoryPersistenceBackend

        return MemoryPersistenceBackend(**options)
    raise StorageError(
        f"open {address!r}: no backend is known for {scheme + ':'!r}; write a path or one of {', '.join(_SCHEMES)}"
    )


def _open_directory(path: Path, create: bool, options: dict[str, Any]) -> PersistenceBackend:
    from persistkit.backends.file import FilePersistenceBackend

    if not create and not path.exists():
        raise StorageError(f"open {str(path)!r}: it does not exist{_near(path)}; to make a new store write create=True")
    return FilePersistenceBackend(path, create=create, **options)


def _near(path: Path) -> str:
    """Say where the path ends to exist, and which neighbour has a name like it."""
    parent = path.absolute().parent
    if not parent.is_dir():
        return f" (nor does {str(parent)!r})"
    try:
        neighbours = [child.name for child in parent.iterdir() if child.is_dir()]
    except OSError:  # a hint only: the error itself is already being told
        neighbours = []
    near = difflib.get_close_matches(path.name, neighbours, n=1)
    return f" in {str(parent)!r}" + (f"; there is {near[0]!r}" if near else "")
