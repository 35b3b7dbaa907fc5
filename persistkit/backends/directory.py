"""Directory: the blocking operations on one base directory, one file a key, every write atomic."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader, BufferedWriter
from pathlib import Path
from time import time_ns
from typing import Final

from persistkit.backend import BlockingReader, BlockingWriter, Entry, raise_failures
from persistkit.backends.claims import Claims
from persistkit.errors import KeyCollisionError, PersistenceError, StorageError
from persistkit.filenames import claim_name_for, is_filename, keys_for, place_for
from persistkit.operations import BytesLike

__all__ = ["TEMP_PREFIX", "TEMP_SUFFIX", "Directory", "modified_at"]

TEMP_PREFIX: Final = ".persistkit-"
TEMP_SUFFIX: Final = ".tmp"

# Read without following a link out of the directory, and without waiting for a FIFO's writer. O_CLOEXEC is Python's
# default; O_BINARY exists on Windows only.
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# Measured on ext4: 16 at once are about three times as fast as one after the other, 8 twice, 32 hardly more.
_SYNC_WORKERS: Final = 16
_MOST_SCANS: Final = 4
_SAME_TICK_NANOSECONDS: Final = 20_000_000


class Directory:
    """One directory of values, synchronous: the blocking core of ``FilePersistenceBackend``.

    A save writes a temp file in the same directory, syncs it, renames it over the value and syncs the directory
    (both syncs only with ``fsync``). Keys whose filename does not give them back are claimed first (``Claims``).
    """

    def __init__(self, base_dir: str | os.PathLike[str], *, create: bool, fsync: bool) -> None:
        if not os.fspath(base_dir) or "\0" in os.fspath(base_dir):
            raise StorageError(f"open the directory {os.fspath(base_dir)!r}: not a path", errno=errno.EINVAL)
        self.base_dir = Path(base_dir).absolute()
        self.fsync = fsync
        self._root = os.fspath(self.base_dir)
        self.claims = Claims(self)
        self._open(create=create)

    def _open(self, *, create: bool) -> None:
        with self.errors("open the directory"):
            if create:
                missing = [path for path in (self.base_dir, *self.base_dir.parents) if not path.exists()]
                self.base_dir.mkdir(parents=True, exist_ok=True)
                if self.fsync:
                    for path in missing:
                        _sync(os.fspath(path.parent))
            mode = self.base_dir.stat().st_mode
            if not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            with os.scandir(self._root):
                pass

    def path_of(self, name: str) -> str:
        """Return the path of the file ``name`` directly inside the directory."""
        return f"{self._root}/{name}"

    # -- single operations ---------------------------------------------------------------------------------------

    def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, atomically; see ``FilePersistenceBackend.save``."""
        name, hard = place_for(key)
        try:
            temp = self.write_temp(value)
            if hard:
                self._replace_claimed(key, name, temp)
            else:
                self.replace(name, temp)
            if self.fsync:
                self.sync()
        except OSError as error:
            raise self.refused("save", key, error) from error

    def load(self, key: str) -> bytes | None:
        """Return the value of ``key``, or None when there is none."""
        name, hard = place_for(key)
        try:
            value = self._read(name)
            if hard and value is not None and self.claims.held_by_another(key, name):
                return None
            return value
        except OSError as error:
            raise self.refused("load", key, error) from error

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value in the file ``filename`` of this directory, or None when there is none.

        Raises:
            StorageError: ``filename`` is not the name of a value, or not a regular file.
        """
        if not is_filename(filename) or "/" in filename or os.sep in filename or "\0" in filename:
            raise StorageError(
                f"load the file {filename!r} in {self._root}: not the name of a value (<text>-<16 hex digits>.bin)",
                errno=errno.EINVAL,
            )
        with self.errors("load the file", filename):
            return self._read(filename)

    def delete(self, key: str) -> None:
        """Remove the value of ``key``; a claim is kept, so no other key can slip in beside a competing save."""
        if self._remove(key):
            self._sync_for("delete", [key], None)

    def _remove(self, key: str) -> bool:
        """Remove the value of ``key``, not yet durably, and tell whether there was one."""
        name, hard = place_for(key)
        with self.errors("delete", key):
            if not hard:
                return self._unlink(name)
            # Claiming is for the one who deletes a value: without one there is nothing another key could lose.
            if not self.exists(key):
                return False
            try:
                with self.claims.hold(key, name, "delete"):
                    return self._unlink(name)
            except KeyCollisionError:
                if self.exists(key):
                    raise
                return False

    def exists(self, key: str) -> bool:
        """Tell whether ``key`` has a value."""
        name, hard = place_for(key)
        with self.errors("look for", key):
            try:
                found = stat.S_ISREG(os.lstat(self.path_of(name)).st_mode)
            except FileNotFoundError:
                self._still_there()
                return False
            return found and not (hard and self.claims.held_by_another(key, name))

    # -- batches -------------------------------------------------------------------------------------------------

    def batch_save(self, items: dict[str, BytesLike]) -> None:
        """Store every value, made durable as one group; see ``FilePersistenceBackend.batch_save``."""
        failures: dict[str, Exception] = {}
        if self.fsync and len(items) > 1:
            self._save_group(items, failures)
        else:
            self._attempt(items, lambda key: self.save(key, items[key]), failures)
        raise_failures("batch_save", len(items), failures)

    def batch_load(self, keys: list[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none."""
        loaded: list[bytes | None] = []
        failures: dict[str, Exception] = {}
        for key in keys:
            try:
                loaded.append(self.load(key))
            except PersistenceError as error:
                failures[key] = error
        raise_failures("batch_load", len(keys), failures)
        return loaded

    def batch_delete(self, keys: list[str]) -> None:
        """Remove the values of ``keys``; the directory is synced once for all."""
        failures: dict[str, Exception] = {}
        self._attempt(dict.fromkeys(keys), self._remove, failures)
        self._sync_for("delete", [key for key in keys if key not in failures], failures)
        raise_failures("batch_delete", len(keys), failures)

    def _attempt(self, keys: Iterable[str], work: Callable[[str], object], failures: dict[str, Exception]) -> None:
        for key in keys:
            try:
                work(key)
            except PersistenceError as error:
                failures[key] = error

    def _save_group(self, items: dict[str, BytesLike], failures: dict[str, Exception]) -> None:
        """Write and sync all temp files, several at a time, rename them all, sync the directory once."""
        temps: dict[str, str] = {}

        def write(key: str) -> None:
            with self.errors("save", key):
                temps[key] = self.write_temp(items[key])

        def publish(key: str) -> None:
            with self.errors("save", key), self._claimed(key) as name:
                self.replace(name, temps.pop(key))

        try:
            # The syncs of several files at once share the journal's commits; one after the other they do not.
            with ThreadPoolExecutor(_SYNC_WORKERS, "persistkit-sync") as pool:
                for share in [pool.submit(self._attempt, keys, write, failures) for keys in _shares(list(items))]:
                    share.result()
            self._attempt(list(temps), publish, failures)
        finally:
            for temp in temps.values():
                with suppress(OSError):
                    os.unlink(temp)  # noqa: PTH108 - a str path, as everywhere on this path
        self._sync_for("save", [key for key in items if key not in failures], failures)

    def _sync_for(self, action: str, keys: list[str], failures: dict[str, Exception] | None) -> None:
        """Sync the directory for ``keys``; when that fails it has failed for each of them."""
        try:
            if keys:
                with self.errors(action, keys[0]):
                    self.sync()
        except StorageError as error:
            if failures is None:
                raise
            failures.update(dict.fromkeys(keys, error))

    # -- listings ------------------------------------------------------------------------------------------------

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Iterate over the values whose key starts with ``prefix``, in the directory's order."""
        with self.errors("list"):
            files, companions = self._scan()
            readings = self._read_keys([file.name for file in files], companions)
        for file, (key, ambiguous) in zip(files, readings, strict=True):
            if prefix and (key is None or not key.startswith(prefix)):
                continue
            try:
                status = file.stat(follow_symlinks=False)
            except FileNotFoundError:
                with self.errors("list"):
                    self._still_there()
                continue
            except OSError as error:
                raise self.refused("list", file.name, error) from error
            yield Entry(key, status.st_size, modified_at(status), file.name, ambiguous)

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted: one directory scan, no stat."""
        with self.errors("list"):
            files, companions = self._scan()
            readings = self._read_keys([file.name for file in files], companions)
        return sorted(key for key, _ in readings if key is not None and key.startswith(prefix))

    def key_count(self) -> int:
        """Return how many values are stored."""
        with self.errors("count"):
            return len(self._scan()[0])

    def change_token(self) -> object:
        """Return a token of the directory's time, which every rename and removal in it moves."""
        with self.errors("look at"):
            status = os.stat(self._root)  # noqa: PTH116 - a str path, as everywhere on this path
        # Two changes within one tick of the file system's clock leave the same time: a young time proves nothing.
        now = time_ns()
        young = now if abs(now - status.st_mtime_ns) < _SAME_TICK_NANOSECONDS else None
        return status.st_ino, status.st_mtime_ns, young

    def _scan(self) -> tuple[list[os.DirEntry[str]], set[str]]:
        """Return the values' files, each once, and the names of the companions.

        A directory that changes while it is read may show a file twice or, on tmpfs, where a rename gives it a new
        place, not at all. So it is read again, a few times at most, until it has not changed meanwhile.
        """
        files: dict[str, os.DirEntry[str]] = {}
        companions: set[str] = set()
        for _ in range(_MOST_SCANS):
            before = os.stat(self._root).st_mtime_ns  # noqa: PTH116
            missed, files = files, {}
            with os.scandir(self._root) as scan:
                for found in scan:
                    name = found.name
                    if name.endswith(".key"):
                        companions.add(name)
                    elif is_filename(name) and found.is_file(follow_symlinks=False):
                        files[name] = found
            for name, found in missed.items():
                if name not in files and os.path.lexists(found.path):
                    files[name] = found
            if os.stat(self._root).st_mtime_ns == before:  # noqa: PTH116
                break
        return list(files.values()), companions

    def _read_keys(self, names: list[str], companions: set[str]) -> list[tuple[str | None, bool]]:
        """Return key and ambiguity of each name: a companion's key, else the only or the smallest solution."""
        claimed = {name: self.claimed_key(name) for name in names if companions and claim_name_for(name) in companions}
        readings = iter(keys_for([name for name in names if claimed.get(name) is None]))
        keys: list[tuple[str | None, bool]] = []
        for name in names:
            key = claimed.get(name)
            if key is None:
                found = next(readings).keys
                # A claim precedes its value: one made since the scan went by is there now.
                key = found[0] if len(found) == 1 else self.claimed_key(name)
                if key is None and found:
                    keys.append((found[0], True))
                    continue
            keys.append((key, False))
        return keys

    def claimed_key(self, name: str) -> str | None:
        """Return the key that the companion of ``name`` names; None without a companion that can be read."""
        try:
            return self.claims.key_in(claim_name_for(name), name)
        except OSError:
            # Not readable, or no file at all: check tells; one bad companion must not hide the whole directory.
            return None

    # -- streams -------------------------------------------------------------------------------------------------

    @contextmanager
    def open_reader(self, key: str) -> Iterator[BlockingReader | None]:
        """Open the value of ``key`` for reading in chunks; None when there is none."""
        descriptor = self.open_value(key)
        if descriptor is None:
            yield None
            return
        with os.fdopen(descriptor, "rb") as file:
            yield _FileReader(self, key, file)

    def open_value(self, key: str) -> int | None:
        """Return an open descriptor of the value of ``key``, or None when there is none."""
        name, hard = place_for(key)
        with self.errors("open", key):
            opened = self._open_regular(name)
            if opened is None:
                return None
            if hard and self.claims.held_by_another(key, name):
                os.close(opened[0])
                return None
            return opened[0]

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BlockingWriter]:
        """Open the value of ``key`` for writing in chunks; it appears when the block ends well."""
        temp = self.new_temp()
        try:
            with self.errors("save", key):
                file = self.open_temp(temp)
            try:
                yield _FileWriter(self, key, file)
                with self.errors("save", key):
                    file.flush()
            finally:
                # What could not be written was reported by flush, and again only by the way.
                with suppress(OSError):
                    file.close()
            self.publish(key, temp)
        except BaseException:
            self.discard(temp)
            raise

    def open_temp(self, temp: str) -> BufferedWriter:
        """Create the temp file ``temp`` and open it for writing."""
        return os.fdopen(os.open(temp, _CREATE, 0o666), "wb")

    def publish(self, key: str, temp: str) -> None:
        """Make the finished temp file ``temp`` the value of ``key``."""
        with self.errors("save", key), self._claimed(key) as name:
            if self.fsync:
                _sync(temp)
            self.replace(name, temp)
            self.sync()

    def discard(self, temp: str) -> None:
        """Remove a temp file that will not become a value, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(temp)  # noqa: PTH108

    # -- the steps of an atomic write ------------------------------------------------------------------------------

    def new_temp(self) -> str:
        """Return the path of a temp file nobody else uses."""
        return f"{self._root}/{TEMP_PREFIX}{os.urandom(16).hex()}{TEMP_SUFFIX}"

    def write_temp(self, content: BytesLike) -> str:
        """Write a new temp file, synced if ``fsync``, and return its path; nothing is left when it fails."""
        temp = self.new_temp()
        # 0666, so that the umask decides; tempfile would leave 0600, unreadable for the others of a shared directory.
        descriptor = os.open(temp, _CREATE, 0o666)
        try:
            try:
                written = os.write(descriptor, content)
                while written < len(content):
                    written += os.write(descriptor, memoryview(content)[written:])
                if self.fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            self.discard(temp)
            raise
        return temp

    def replace(self, name: str, temp: str) -> None:
        """Rename ``temp`` over the file ``name``; the temp file is removed when that fails."""
        try:
            os.replace(temp, f"{self._root}/{name}")  # noqa: PTH105
        except BaseException:
            self.discard(temp)
            raise

    def sync(self) -> None:
        """Make renames and removals in the directory durable, if ``fsync``."""
        if self.fsync:
            _sync(self._root)

    # -- one file --------------------------------------------------------------------------------------------------

    def _open_regular(self, name: str) -> tuple[int, int] | None:
        """Return descriptor and size of the regular file ``name``, or None when it does not exist."""
        try:
            descriptor = os.open(f"{self._root}/{name}", _READ)
        except FileNotFoundError:
            self._still_there()
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, f"{name} is not a regular file")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status.st_size

    def open_file(self, name: str) -> int | None:
        """Return an open descriptor of the regular file ``name``, or None when it does not exist."""
        opened = self._open_regular(name)
        return None if opened is None else opened[0]

    def _read(self, name: str) -> bytes | None:
        opened = self._open_regular(name)
        if opened is None:
            return None
        descriptor, size = opened
        try:
            # One byte more than expected: a short answer is the end of the file, without a second call to see it.
            value = os.read(descriptor, size + 1)
            if len(value) == size:
                return value
            chunks = [value]
            while chunk := os.read(descriptor, 1 << 20):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            os.close(descriptor)

    def _unlink(self, name: str) -> bool:
        try:
            os.unlink(f"{self._root}/{name}")  # noqa: PTH108
        except FileNotFoundError:
            self._still_there()
            return False
        return True

    def _still_there(self) -> None:
        """Tell a missing file from a missing directory: the second is an error, never an absent key."""
        os.stat(self._root)  # noqa: PTH116

    def _replace_claimed(self, key: str, name: str, temp: str) -> None:
        try:
            with self.claims.hold(key, name):
                self.replace(name, temp)
        except BaseException:
            self.discard(temp)
            raise

    @contextmanager
    def _claimed(self, key: str) -> Iterator[str]:
        """Hold the claim of ``key``, if it needs one, and give its filename."""
        name, hard = place_for(key)
        if not hard:
            yield name
            return
        with self.claims.hold(key, name):
            yield name

    @contextmanager
    def errors(self, action: str, subject: str | None = None) -> Iterator[None]:
        """Raise what the system refuses as one ``StorageError`` that says what was tried, on what, and where."""
        try:
            yield
        except PersistenceError:
            raise
        except OSError as error:
            raise self.refused(action, subject, error) from error

    def refused(self, action: str, subject: str | None, error: OSError) -> StorageError:
        """Return the error to raise for what the system refused."""
        tried = action if subject is None else f"{action} {subject!r}"
        return StorageError(f"{tried} in {self._root}: {self._reason(error)}", errno=error.errno)

    def _reason(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            if any(parent.is_file() for parent in (self.base_dir, *self.base_dir.parents)):
                return "this is a file, or lies below one: not a directory"
            if not self.base_dir.exists():
                return "the directory does not exist; check the path, or pass create=True to make it"
        if error.errno == errno.ELOOP:
            return "the file is a symbolic link, which is never followed"
        return reason


class _FileReader:
    """An open value, read in chunks."""

    def __init__(self, directory: Directory, key: str, file: BufferedReader) -> None:
        self._directory = directory
        self._key = key
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        with self._directory.errors("load", self._key):
            return self._file.read(size)


class _FileWriter:
    """A value being written, in chunks."""

    def __init__(self, directory: Directory, key: str, file: BufferedWriter) -> None:
        self._directory = directory
        self._key = key
        self._file = file

    def write(self, chunk: BytesLike) -> None:
        with self._directory.errors("save", self._key):
            self._file.write(chunk)


def modified_at(status: os.stat_result) -> datetime:
    """Return a file's time; the first or the last that Python knows when it lies beyond."""
    try:
        return datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if status.st_mtime > 0 else datetime.min).replace(tzinfo=UTC)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shares(keys: list[str]) -> list[list[str]]:
    return [share for worker in range(_SYNC_WORKERS) if (share := keys[worker::_SYNC_WORKERS])]
