"""The engines, one module or folder each, and the address that leads to each."""

from __future__ import annotations

import difflib
import inspect
import re
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, Unpack
from urllib.parse import unquote, urlunsplit

from persistkit.engine import Engine
from persistkit.engines.addresses import Options, bucket_url, check_path, server_url
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.errors import StorageError

__all__ = ["open_engine", "shown_address"]

# Two letters at least: `C:/results` is a path.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SQLITE: Final = ("persistkit.engines.sqlite", "SQLiteEngine")
_POSTGRESQL: Final = ("persistkit.engines.postgresql", "PostgreSQLEngine")
_REDIS: Final = ("persistkit.engines.redis", "RedisEngine")
_OBJECTS: Final = ("persistkit.engines.objects", "ObjectEngine")
_ENGINES: Final = {
    "sqlite": _SQLITE,
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    "redis": _REDIS,
    "rediss": _REDIS,
    "valkey": _REDIS,
    "valkeys": _REDIS,
    "s3": _OBJECTS,
    "gs": _OBJECTS,
    "az": _OBJECTS,
}
_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")
# What nobody means as the name of a directory that is to be made.
_FILES: Final = (".zip", ".parquet", ".csv", ".json", ".jsonl", ".npy", ".npz")
_SCHEMES: Final = ("file:", "memory:", *(f"{scheme}://" for scheme in _ENGINES))


def open_engine(
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Unpack[Options]
) -> Engine:
    """Return the engine an address leads to.

    A path of a directory, or of a SQLite file (``~/`` is the home directory), a ``file:`` URL (percent-encoded),
    ``memory:``, ``sqlite:///state.db``, ``postgresql://host/database``, ``redis://``, ``rediss://``, ``valkey://`` or ``valkeys://host:6379/0``,
    ``s3://bucket/prefix``, and, unverified, ``gs://`` and ``az://``. Nothing is sent to a server before the first
    operation, but PostgreSQL is asked for its tables unless there is ``create``: for five seconds at most, and that it
    does not answer is told by the first operation.

    A database of LangGraph's or of the OpenAI Agents SDK's is told by its tables, and is read only: every write is
    refused, and no byte of a file changes. Where our own tables are beside LangGraph's, ``table="checkpoints"`` opens
    those.

    Args:
        address: where the values are.
        create: make the directory, or the database's file and tables, if it does not exist; other engines need none.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O, and change no byte of what is opened.
        options: handed to the engine, such as ``fsync=False``, ``timeout_seconds=5``, ``table="runs"``,
            ``namespace="runs:"``, ``endpoint="https://..."``, credentials.

    Raises:
        ImportError: the engine's packages are not installed; the message says what to install.
        TypeError: the address is neither text nor a path, or an option is unknown to the engine.
        ValueError: the address is empty or not complete, or ``create`` and ``read_only`` are both asked for.
        StorageError: nothing is there, or the scheme is not known; the message says what is near.

    Example:
        >>> open_engine("memory:")
        MemoryEngine()
    """
    if not isinstance(address, (str, PathLike)):
        raise TypeError(f"an address is text or a path, such as 'results', not {type(address).__name__}")
    if not fspath(address):
        raise ValueError("the address is empty; write a path, such as 'results', or '.' for the working directory")
    if create and read_only:
        raise ValueError(f"open {shown_address(address)!r}: what is opened read only is not made; drop create=True")
    engine = _opened(address, create, read_only, dict(options))
    return ReadOnlyEngine(engine) if read_only and not isinstance(engine, ReadOnlyEngine) else engine


def shown_address(address: str | PathLike[str]) -> str:
    """Return an address as it may be shown: no password and no options; of an unknown scheme, nothing but the scheme.

    Example:
        >>> shown_address("postgresql://me:secret@host/state?password=secret")
        'postgresql://me@host/state'
    """
    text = str(address)
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if isinstance(address, PathLike) or scheme in ("", "memory") or (scheme == "file" and "@" not in text):
        return text
    if _is_path(text):
        return text
    if scheme not in _ENGINES:
        return f"{scheme}:..."
    if scheme == "sqlite":
        return text.partition("?")[0]
    try:
        if _ENGINES[scheme] is _OBJECTS:
            return urlunsplit(bucket_url(text))
        url = server_url(text)
    except ValueError:  # what in it is secret cannot be told
        return f"{scheme}://..."
    credentials, _, host = url.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    # Databases of Redis are numbers: anything else may be a password in the wrong place.
    path = "/..." if _ENGINES[scheme] is _REDIS and url.path.strip("/0123456789") else url.path
    return f"{url.scheme}://{user + '@' if user else ''}{host}{path}"


def _opened(address: str | PathLike[str], create: bool, read_only: bool, options: dict[str, Any]) -> Engine:
    if isinstance(address, PathLike):
        return _open_path(Path(address), create, read_only, options)
    if _is_path(address):
        path = Path(address)
        at_home = address.startswith("~/") and not path.exists()
        return _open_path(path.expanduser() if at_home else path, create, read_only, options)
    scheme, _, rest = address.partition(":")
    scheme = scheme.lower()
    if scheme == "file":
        return _open_path(_path_of_url(rest), create, read_only, options)
    if scheme == "memory":
        if rest not in ("", "//"):
            raise ValueError(f"open {address!r}: values in memory have no name; write 'memory:'")
        from persistkit.engines.memory import MemoryEngine

        return _made(MemoryEngine, (), create, read_only, options)
    if scheme in _ENGINES:
        if (of_another := _of_another(f"{scheme}:{rest}", create, options)) is not None:
            return of_another
        module, name = _ENGINES[scheme]
        return _made(getattr(import_module(module), name), (f"{scheme}:{rest}",), create, read_only, options)
    near = difflib.get_close_matches(scheme, _ENGINES, n=1)
    meant = f"; did you mean {near[0] + '://'!r}? Otherwise" if near else ";"
    # Only the scheme is shown: what follows may hold a password.
    raise StorageError(
        f"open an address: no engine is known for {scheme + ':'!r}{meant} write a path or one of {', '.join(_SCHEMES)}"
    )


def _is_path(address: str) -> bool:
    """Tell whether text is a path: it has no scheme, or exists, for a directory may be called `run:1` too."""
    found = _SCHEME.match(address)
    return found is None or (found[1] not in ("file", "memory") and Path(address).exists())


def _path_of_url(rest: str) -> Path:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            host = host.rpartition("@")[2]
            raise ValueError(
                f"open 'file://{host}/...': a file: URL with a host leads to another machine; mount it and write its "
                "path, or write file:///path"
            )
        rest = slash + path
    return Path(unquote(rest))


def _of_another(address: str, create: bool, options: dict[str, Any]) -> Engine | None:
    """Return the engine of another program's database; None where it is ours, is not there or does not answer."""
    if address.startswith("sqlite:"):
        path = Path(address.partition(":///")[2]).expanduser().absolute()
        if path.is_file():
            from persistkit.engines.foreign import sqlite_of_another

            return sqlite_of_another(str(path), create=create, must=False, options=options)
    elif address.startswith(("postgresql:", "postgres:")) and not create:
        from persistkit.engines.foreign import postgresql_of_another

        return postgresql_of_another(address, options)
    return None


def _open_path(path: Path, create: bool, read_only: bool, options: dict[str, Any]) -> Engine:
    check_path(path)
    if path.is_file():
        from persistkit.engines.foreign import sqlite_of_another
        from persistkit.engines.sqlite import SQLiteEngine

        whole = str(path.absolute())
        of_another = sqlite_of_another(whole, create=create, must=True, options=options)
        return of_another or _made(SQLiteEngine, (f"sqlite:///{whole}",), create, read_only, options)
    if path.suffix.lower() in _SUFFIXES and not path.exists():
        raise StorageError(
            f"open {str(path)!r}: there is no such file{_near(path)}; to make a SQLite file write 'sqlite:///{path}' "
            "and create=True"
        )
    from persistkit.engines.files import FileEngine

    if not create and not path.exists():
        raise StorageError(f"open {str(path)!r}: it does not exist{_near(path)}; to make a new store write create=True")
    if path.suffix.lower() in _FILES and not path.exists():
        raise StorageError(
            f"open {str(path)!r}: a new store is a directory, and this is the name of a file; write "
            f"{str(path.with_suffix(''))!r}, or make a directory of that name first"
        )
    return _made(FileEngine, (path,), create, read_only, options)


def _made(
    engine: type[Engine], place: tuple[object, ...], create: bool, read_only: bool, options: dict[str, Any]
) -> Engine:
    """Make the engine, and name an option it does not take, with the one that may be meant."""
    parameters = inspect.signature(engine).parameters
    for_every_address = {"create": create, "read_only": read_only}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        taken = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
        offered = list(dict.fromkeys([*for_every_address, *taken]))
        for name in options:
            if name not in taken:
                near = difflib.get_close_matches(name, offered, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(offered)}"
                raise TypeError(f"{engine.__name__} takes no option {name!r}{meant}")
    options |= {name: given for name, given in for_every_address.items() if name in parameters}
    return engine(*place, **options)


def _near(path: Path) -> str:
    """Say where the path ends to exist, and which neighbour has a name like it."""
    parent = path.absolute().parent
    if not parent.is_dir():
        return f" (nor does {str(parent)!r})"
    try:
        neighbours = [child.name for child in parent.iterdir() if child.is_dir() or child.suffix.lower() in _SUFFIXES]
    except OSError:  # a hint only: the error itself is already being told
        neighbours = []
    near = difflib.get_close_matches(path.name, neighbours, n=1)
    return f" in {str(parent)!r}" + (f"; there is {near[0]!r}" if near else "")
