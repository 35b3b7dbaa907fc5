"""Directory: the blocking operations on one base directory, one file a key."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from threading import Event
from time import time_ns
from typing import Final, TypeVar

from persistkit.backend import BlockingReader, BlockingWriter, Entry, raise_failures
from persistkit.backends.cancellation import undisturbed
from persistkit.backends.claims import Claims
from persistkit.backends.file_streams import ValueReader, ValueWriter
from persistkit.backends.files import EXHAUSTED, Files, modified_at, sync_path
from persistkit.errors import KeyCollisionError, PersistenceError, StorageError
from persistkit.filenames import Reading, claim_name_for, is_filename, place_for, readings_of
from persistkit.operations import BytesLike

__all__ = ["Directory"]

T = TypeVar("T")

# Measured on ext4 with 500 values of 1 KiB: 8 or 16 at once take 0.4 of the time of one after the other, 32 take more.
_SYNC_WORKERS: Final = 16
_MOST_SCANS: Final = 4
_SAME_TICK_NANOSECONDS: Final = 20_000_000


class Directory(Files):
    """The values of one directory by key, synchronous: the blocking core of ``FilePersistenceBackend``.

    Keys whose filename does not give them back are claimed before they are written (``Claims``).
    """

    def __init__(self, base_dir: str | os.PathLike[str], *, create: bool, fsync: bool) -> None:
        super().__init__(base_dir, create=create, fsync=fsync)
        self.claims = Claims(self)

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
        return self._loaded(key, self.read)

    def load_buffer(self, key: str) -> BytesLike | None:
        """Return the value of ``key`` as ``load`` does; a large one in a writable buffer nobody else has."""
        return self._loaded(key, self.read_buffer)

    def _loaded(self, key: str, read: Callable[[str], T]) -> T | None:
        name, hard = place_for(key)
        try:
            value = read(name)
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
                f"load the file {filename!r} in {self.root}: not the name of a value (<text>-<16 hex digits>.bin)",
                errno=errno.EINVAL,
            )
        with self.errors("load the file", filename):
            return self.read(filename)

    def delete(self, key: str) -> None:
        """Remove the value of ``key``; a claim is kept, so no other key can slip in beside a competing save."""
        if self._remove(key):
            self._sync_for("delete", [key], None)

    def _remove(self, key: str) -> bool:
        """Remove the value of ``key``, not yet durably, and tell whether there was one."""
        name, hard = place_for(key)
        with self.errors("delete", key):
            if not hard:
                return self.unlink(name)
            # Claiming is for the one who deletes a value: without one there is nothing another key could lose.
            if not self.exists(key):
                return False
            try:
                with self.claims.hold(key, name, "delete"):
                    return self.unlink(name)
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
                self.still_there()
                return False
            return found and not (hard and self.claims.held_by_another(key, name))

    # -- batches -------------------------------------------------------------------------------------------------

    def batch_save(self, items: dict[str, BytesLike]) -> None:
        """Store every value, made durable as one group; see ``FilePersistenceBackend.batch_save``."""
        failures: dict[str, Exception] = {}
        if self.fsync and len(items) > 1:
            stop = Event()
            undisturbed(lambda: self._save_group(items, failures, stop), stop)
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

    def _save_group(self, items: dict[str, BytesLike], failures: dict[str, Exception], stop: Event) -> None:
        """Write and sync all temp files, several at a time, rename them all, sync the directory once.

        What has not begun when ``stop`` is set is left out.
        """
        temps: dict[str, str] = {}

        def write(key: str) -> None:
            if not stop.is_set():
                with self.errors("save", key):
                    temps[key] = self.write_temp(items[key])

        def publish(key: str) -> None:
            if not stop.is_set():
                with self.errors("save", key), self._claimed(key) as name:
                    self.replace(name, temps.pop(key))

        try:
            self._at_once(list(items), write, failures)
            self._attempt(list(temps), publish, failures)
        finally:
            for temp in temps.values():
                self.discard(temp)
        self._sync_for("save", [key for key in items if key not in failures], failures)

    def _at_once(self, keys: list[str], work: Callable[[str], object], failures: dict[str, Exception]) -> None:
        """Attempt ``work`` on all keys, several at a time: their syncs then share the journal's commits."""
        waiting = iter(keys)  # shared, so that each key is taken once, by whichever thread is free
        others: list[Future[None]] = []
        with ThreadPoolExecutor(_SYNC_WORKERS, "persistkit-sync") as pool:
            # No thread starts while the interpreter ends, or where there are too many: this one works anyway.
            with suppress(RuntimeError):
                others.extend(pool.submit(self._attempt, waiting, work, failures) for _ in keys[1:_SYNC_WORKERS])
            self._attempt(waiting, work, failures)
        for other in others:
            other.result()

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
                    self.still_there()
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
            status = os.stat(self.root)  # noqa: PTH116 - a str path, as everywhere on this path
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
            before = os.stat(self.root).st_mtime_ns  # noqa: PTH116
            missed = files
            with os.scandir(self.root) as scan:
                # Foreign names are let go at once: a million of them would take a quarter of a gigabyte.
                found = [entry for entry in scan if entry.name.endswith((".bin", ".key"))]
            companions.update([entry.name for entry in found if entry.name.endswith(".key")])
            files = {e.name: e for e in found if is_filename(e.name) and e.is_file(follow_symlinks=False)}
            for name, entry in missed.items():
                if name not in files and os.path.lexists(entry.path):
                    files[name] = entry
            if os.stat(self.root).st_mtime_ns == before:  # noqa: PTH116
                break
        return list(files.values()), companions

    def _read_keys(self, names: list[str], companions: set[str]) -> Iterator[tuple[str | None, bool]]:
        """Iterate over key and ambiguity of each name: a companion's key, else the only or the smallest solution."""
        with self.errors("list"):
            claimed: dict[str, str | None] = {}
            if companions:
                claimed = {name: self.claimed_key(name)[0] for name in names if claim_name_for(name) in companions}
            readings = readings_of([name for name in names if claimed.get(name) is None])
            for name in names:
                key = claimed.get(name)
                yield self._choice(next(readings)) if key is None else (key, False)

    def _choice(self, reading: Reading) -> tuple[str | None, bool]:
        if len(reading.keys) == 1:
            return reading.keys[0], False
        # A claim precedes its value: one made since the scan went by is there now.
        key, sealed = self.claimed_key(reading.filename)
        if key is None and reading.keys and not sealed:
            return reading.keys[0], True
        return key, False

    def claimed_key(self, name: str) -> tuple[str | None, bool]:
        """Return the key that the companion of ``name`` names, and whether a companion is there that cannot be read.

        Raises:
            OSError: the process or the system has no more room to open files, which says nothing of the companion.
        """
        try:
            return self.claims.key_in(claim_name_for(name), name), False
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            # check tells; one bad companion must not hide the whole directory. No file at all claims nothing.
            return None, error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO)

    # -- streams -------------------------------------------------------------------------------------------------

    @contextmanager
    def open_reader(self, key: str) -> Iterator[BlockingReader | None]:
        """Open the value of ``key`` for reading in chunks; None when there is none."""
        opened = self.open_value(key)
        if opened is None:
            yield None
            return
        file, size = opened
        try:
            yield ValueReader(self, key, file, size)
        finally:
            with self.errors("load", key):
                file.close()

    def open_value(self, key: str) -> tuple[BufferedReader, int] | None:
        """Open the value of ``key`` for reading and return it with its size, or None when there is none."""
        name, hard = place_for(key)
        with self.errors("open", key):
            opened = self.open_buffered(name)
            if opened is None or not hard:
                return opened
            try:
                held_by_another = self.claims.held_by_another(key, name)
            except BaseException:
                opened[0].close()
                raise
            if held_by_another:
                opened[0].close()
                return None
            return opened

    @contextmanager
    def open_writer(self, key: str) -> Iterator[BlockingWriter]:
        """Open the value of ``key`` for writing in chunks; it appears when the block ends well."""
        temp = self.new_temp()
        try:
            with self.errors("save", key):
                file = self.open_temp(temp)
            try:
                yield ValueWriter(self, key, file)
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

    def publish(self, key: str, temp: str) -> None:
        """Make the finished temp file ``temp`` the value of ``key``."""
        with self.errors("save", key), self._claimed(key) as name:
            if self.fsync:
                sync_path(temp)
            self.replace(name, temp)
            self.sync()

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
