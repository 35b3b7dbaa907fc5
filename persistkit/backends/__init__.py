"""The engines behind the interface, each under its own module, and which address leads to which."""

from __future__ import annotations

import difflib
import inspect
import re
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlunsplit

from persistkit.backend import PersistenceBackend
from persistkit.backends.addresses import bucket_url, server_url
from persistkit.backends.readonly import ReadOnlyBackend
from persistkit.errors import StorageError

__all__ = ["open_backend", "shown_address"]


def __dir__() -> list[str]:
    return __all__


# Two letters at least: `C:/results` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_TABLES: Final = ("persistkit.backends.sql", "SQLPersistenceBackend")
_SERVERS: Final = ("persistkit.backends.redis", "RedisPersistenceBackend")
_OBJECTS: Final = ("persistkit.backends.objects", "ObjectPersistenceBackend")
_ENGINES: Final = {
    "sqlite": _TABLES,
    "postgresql": _TABLES,
    "postgres": _TABLES,
    "redis": _SERVERS,
    "rediss": _SERVERS,
    "valkey": _SERVERS,
    "valkeys": _SERVERS,
    "s3": _OBJECTS,
    "gs": _OBJECTS,
    "az": _OBJECTS,
}
_SCHEMES: Final = ("file:", "memory:", *(f"{scheme}://" for scheme in _ENGINES))


def open_backend(
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Any
) -> PersistenceBackend:
    """Return the backend an address leads to.

    A path (``~/`` is the home directory), a ``file:`` URL (percent-encoded), ``memory:``, ``sqlite:///state.db``,
    ``postgresql://host/database``, ``redis://``, ``rediss://``, ``valkey://`` or ``valkeys://host:6379/0``,
    ``s3://bucket/prefix``, and, unverified, ``gs://`` and ``az://``. Nothing is sent to a server before the first
    operation.

    Args:
        address: where the values are.
        create: make the directory, or the database's file and tables, if it does not exist; other engines need none.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O.
        options: handed to the backend, such as ``fsync=False``, ``timeout_seconds=5``, ``table="runs"``,
            ``namespace="runs:"``, ``endpoint="https://..."``, credentials.

    Raises:
        ImportError: the engine's packages are not installed; the message says what to install.
        TypeError: the address is neither text nor a path, or an option is unknown to the engine.
        ValueError: the address is empty or not complete.
        StorageError: nothing is there, or the scheme is not known; the message says what is near.

    Example:
        >>> open_backend("memory:")
        MemoryPersistenceBackend()
    """
    if not isinstance(address, (str, PathLike)):
        raise TypeError(f"an address is text or a path, such as 'results', not {type(address).__name__}")
    if not fspath(address):
        raise ValueError("the address is empty; write a path, such as 'results', or '.' for the working directory")
    backend = _opened(address, create, options)
    return ReadOnlyBackend(backend) if read_only else backend


def shown_address(address: str | PathLike[str]) -> str:
    """Return an address as it may be shown: an engine's without password and options, any other as it is.

    Raises:
        ValueError: the address is not whole, so that nothing tells what in it is secret.

    Example:
        >>> shown_address("postgresql://me:secret@host/state?password=secret")
        'postgresql://me@host/state'
    """
    text = str(address)
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if scheme not in _ENGINES:
        return text
    if scheme == "sqlite":
        return text.partition("?")[0]
    if _ENGINES[scheme] is _OBJECTS:
        return urlunsplit(bucket_url(text))
    url = server_url(text)
    user, at, host = url.netloc.rpartition("@")
    return f"{url.scheme}://{user.partition(':')[0]}{at}{host}{url.path}"


def _opened(address: str | PathLike[str], create: bool, options: dict[str, Any]) -> PersistenceBackend:
    if isinstance(address, PathLike):
        return _open_directory(Path(address), create, options)
    found = _SCHEME.match(address)
    # A directory may be called anything, `run:1` too: what exists as a path is a path.
    if found is None or (found[1] not in ("file", "memory") and Path(address).exists()):
        path = Path(address)
        at_home = address.startswith("~/") and not path.exists()
        return _open_directory(path.expanduser() if at_home else path, create, options)
    scheme, rest = found[1].lower(), address[found.end() :]
    if scheme == "file":
        return _open_directory(Path(unquote(rest.removeprefix("//localhost").removeprefix("//"))), create, options)
    if scheme == "memory":
        from persistkit.backends.memory import MemoryPersistenceBackend

        return _made(MemoryPersistenceBackend, (), options)
    if scheme in _ENGINES:
        module, name = _ENGINES[scheme]
        engine = getattr(import_module(module), name)
        if _ENGINES[scheme] is _TABLES:
            options["create"] = create
        return _made(engine, (f"{scheme}:{rest}",), options)
    near = difflib.get_close_matches(scheme, _ENGINES, n=1)
    meant = f"; did you mean {near[0] + '://'!r}? Otherwise" if near else ";"
    # Only the scheme is told: what follows may hold a password.
    raise StorageError(
        f"open an address: no backend is known for {scheme + ':'!r}{meant} write a path or one of {', '.join(_SCHEMES)}"
    )


def _open_directory(path: Path, create: bool, options: dict[str, Any]) -> PersistenceBackend:
    from persistkit.backends.file import FilePersistenceBackend

    if not create and not path.exists():
        raise StorageError(f"open {str(path)!r}: it does not exist{_near(path)}; to make a new store write create=True")
    return _made(FilePersistenceBackend, (path,), {"create": create, **options})


def _made(engine: type[PersistenceBackend], place: tuple[object, ...], options: dict[str, Any]) -> PersistenceBackend:
    """Make the backend, and name an option it does not take, with the one that may be meant."""
    parameters = inspect.signature(engine).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        taken = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
        offered = list(dict.fromkeys(["create", "read_only", *taken]))  # the first two are for every address
        for name in options:
            if name not in taken:
                near = difflib.get_close_matches(name, offered, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(offered)}"
                raise TypeError(f"{engine.__name__} takes no option {name!r}{meant}")
    return engine(*place, **options)


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
