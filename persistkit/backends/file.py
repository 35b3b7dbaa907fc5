"""FilePersistenceBackend: one file a key in one directory, byte for byte as the Rust runtime writes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from io import BufferedReader, BufferedWriter
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

from persistkit.backend import Entry, PersistenceBackend, Reader, Writer, raise_failures
from persistkit.backends.cancellation import hop, settled
from persistkit.backends.check import Finding, check
from persistkit.backends.directory import Directory
from persistkit.errors import BatchError
from persistkit.filenames import filename_for
from persistkit.operations import BytesLike, Items, check_key, check_value, in_parts, traced

__all__ = ["FilePersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


T = TypeVar("T")

# One hop costs about 100 microseconds, one item 10 to 30: a chunk hides the hop and can still be cancelled soon.
_CHUNK: Final = 500
_CHUNK_BYTES: Final = 32 * 1024 * 1024


class FilePersistenceBackend(PersistenceBackend):
    """One file a key, named ``<sanitized key>-<djb2 hash>.bin``, in the directory ``base_dir``.

    Byte for byte compatible on disk with ``FilePersistenceBackend`` of the Rust crate llm-agent-runtime 1.74.0: a
    directory written there opens here, and the other way round.

    Promises, beyond ``PersistenceBackend``:

    * With ``fsync`` (the default) a save that returned survives a crash of the process, of the system, and a power
      cut: the file is synced, renamed over the old value, and the directory is synced. When that last sync fails,
      the caller sees a ``StorageError`` while the new value is in place. ``fsync=False`` leaves the moment of
      writing to the system, as the reference does.
    * A batch is made durable as one group: when it returned, all of it survives; when the power goes in the middle,
      each key has its old value or its new one, whole, independently of the others.
    * Two keys never share a value. Keys whose filename could be another key's, or does not give them back, hold a
      *claim*: a companion file ``<sanitized>-<hash>.key``. This holds among persistkit writers; where a Rust runtime
      writes the same directory at the same time, the last writer of such a name wins, as it does there.
    * Nothing outside ``base_dir`` is read or written; symbolic links, directories and devices named like values are
      never followed.
    * Cancelling waits until the system calls that have begun have ended.

    Args:
        base_dir: the directory; made absolute here, so a later change of the working directory does not matter.
        create: make the directory, and its parents, if it does not exist.
        fsync: make every save durable before it returns.

    Raises:
        StorageError: the directory does not exist (and ``create`` is False), is a file, or is not readable.

    Example:
        >>> import asyncio, tempfile
        >>> backend = FilePersistenceBackend(tempfile.mkdtemp())
        >>> asyncio.run(backend.save("session:1", b"state"))
        >>> backend.path_for("session:1").name
        'session_1-0377d88a24519c74.bin'
    """

    def __init__(self, base_dir: str | PathLike[str], *, create: bool = False, fsync: bool = True) -> None:
        self._directory = Directory(base_dir, create=create, fsync=fsync)

    def __repr__(self) -> str:
        unsynced = "" if self.fsync else ", fsync=False"
        return f"FilePersistenceBackend({str(self.base_dir)!r}{unsynced})"

    @property
    def base_dir(self) -> Path:
        """The directory, as an absolute path."""
        return self._directory.base_dir

    @property
    def fsync(self) -> bool:
        """Whether every save is made durable before it returns."""
        return self._directory.fsync

    @property
    def blocking_core(self) -> Directory:
        """The same operations without await: plain system calls."""
        return self._directory

    def path_for(self, key: str) -> Path:
        """Return the path of the file that holds, or would hold, the value of ``key``.

        Raises:
            InvalidKeyError: the key cannot be a key.
        """
        check_key(key)
        return self.base_dir / filename_for(key)

    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``: temp file, fsync, rename, fsync of the directory."""
        await hop(self._directory.save, key, value)

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        return await hop(self._directory.load, key)

    async def load_filename(self, filename: str) -> bytes | None:
        """Return the value in the file ``filename``, for entries whose key is not known; None when there is none.

        Raises:
            StorageError: ``filename`` is not the name of a value in this directory, or not a regular file.
        """
        with traced("load_filename", filename):
            return await hop(self._directory.load_filename, filename)

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; its claim, if it has one, stays."""
        await hop(self._directory.delete, key)

    async def batch_save(self, items: Items) -> None:
        """Store every value, in chunks of 500 or 32 MiB: one thread hop and, with ``fsync``, one group each."""
        failures: dict[str, Exception] = {}
        pending = dict(items)
        for chunk in in_parts(pending, _CHUNK, _CHUNK_BYTES):
            await _collect(failures, self._directory.batch_save, chunk)
        raise_failures("batch_save", len(pending), failures)

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none; one thread hop for 500 keys."""
        ordered = list(keys)
        failures: dict[str, Exception] = {}
        loaded: list[bytes | None] = []
        for chunk in _chunks(ordered):
            loaded += await _collect(failures, self._directory.batch_load, chunk) or []
        raise_failures("batch_load", len(ordered), failures)
        return loaded

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``; one thread hop and, with ``fsync``, one sync for 500 keys."""
        ordered = list(keys)
        failures: dict[str, Exception] = {}
        for chunk in _chunks(ordered):
            await _collect(failures, self._directory.batch_delete, chunk)
        raise_failures("batch_delete", len(ordered), failures)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over what is stored: one scan of the directory, then the files' sizes and times in chunks."""
        listing = await hop(self._directory.entries, prefix)
        while page := await hop(_page, listing):
            for entry in page:
                yield entry

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted: one scan of the directory, no stat."""
        return await hop(self._directory.list_keys, prefix)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``; the value is not read."""
        return await hop(self._directory.exists, key)

    async def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included: one scan of the directory."""
        return await hop(self._directory.key_count)

    async def change_token(self) -> object:
        """Return a token of the directory's modification time, which every save and delete moves."""
        return await hop(self._directory.change_token)

    async def check(self, *, repair: bool = False) -> list[Finding]:
        """Look for everything in the directory that is not a whole value under a known key.

        With ``repair`` what is certainly dead is removed: temp files of persistkit and of the Rust runtime older than
        an hour, and claims that have no value and were not used for an hour. A value is never touched.

        Returns:
            One finding a problem, sorted by filename; ``persistkit.frames.findings_frame`` makes a table of them.

        Raises:
            StorageError: the directory cannot be read, or a repair was refused.
        """
        with traced("check"):
            return await hop(check, self._directory, repair)

    def open_reader(self, key: str) -> AbstractAsyncContextManager[Reader | None]:
        """Open the value of ``key`` for reading in chunks, in constant memory; None when there is none."""
        return self._reader(key)

    def open_writer(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Open the value of ``key`` for writing in chunks, in constant memory; it appears when the block ends."""
        return self._writer(key)

    @asynccontextmanager
    async def _reader(self, key: str) -> AsyncIterator[Reader | None]:
        # A list, because a cancelled hop gives no result back, and what it opened must be closed all the same.
        opened: list[tuple[BufferedReader, int]] = []
        try:
            await hop(self._open_for_reading, key, opened)
            yield _StreamReader(self._directory, key, *opened[0]) if opened else None
        finally:
            for file, _ in opened:
                with self._directory.errors("load", key):
                    await settled(asyncio.get_running_loop().run_in_executor(None, file.close))

    def _open_for_reading(self, key: str, opened: list[tuple[BufferedReader, int]]) -> None:
        value = self._directory.open_value(key)
        if value is not None:
            opened.append(value)

    @asynccontextmanager
    async def _writer(self, key: str) -> AsyncIterator[Writer]:
        temp = self._directory.new_temp()
        opened: list[BufferedWriter] = []
        try:
            await hop(self._open_for_writing, key, temp, opened)
            yield _StreamWriter(self._directory, key, opened[0])
            with self._directory.errors("save", key):
                await hop(opened[0].close)
            await hop(self._directory.publish, key, temp)
        finally:
            await settled(asyncio.get_running_loop().run_in_executor(None, self._discard, temp, opened))

    def _open_for_writing(self, key: str, temp: str, opened: list[BufferedWriter]) -> None:
        with self._directory.errors("save", key):
            opened.append(self._directory.open_temp(temp))

    def _discard(self, temp: str, opened: list[BufferedWriter]) -> None:
        for file in opened:
            # What could not be written was reported when the value was to be published.
            with suppress(OSError):
                file.close()
        self._directory.discard(temp)


class _StreamReader:
    """An open value, read in chunks."""

    def __init__(self, directory: Directory, key: str, file: BufferedReader, size: int) -> None:
        self._directory = directory
        self._key = key
        self._file = _awaited(file)
        self.size = size

    async def read(self, size: int = -1) -> bytes:
        with self._directory.errors("load", self._key):
            chunk: bytes = await self._file.read(size)
            return chunk


class _StreamWriter:
    """A value being written, in chunks."""

    def __init__(self, directory: Directory, key: str, file: BufferedWriter) -> None:
        self._directory = directory
        self._key = key
        self._file = _awaited(file)

    async def write(self, chunk: BytesLike) -> None:
        chunk = check_value(self._key, chunk)
        with self._directory.errors("save", self._key):
            await self._file.write(chunk)


def _awaited(file: BufferedReader | BufferedWriter) -> Any:  # Any: aiofiles does not tell the type
    from aiofiles.threadpool import wrap  # here, because few open a stream, and it imports tempfile and what that needs

    return wrap(file)


async def _collect(failures: dict[str, Exception], function: Callable[..., T], chunk: object) -> T | None:
    try:
        return await hop(function, chunk)
    except BatchError as error:
        failures.update(error.failures)
        return None


def _page(listing: Iterator[Entry]) -> list[Entry]:
    return list(islice(listing, 4 * _CHUNK))


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
