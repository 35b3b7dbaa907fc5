"""FileEngine: one file per key in one directory, byte for byte as the Rust runtime writes it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Final, TypeAlias, TypeVar

from persistkit.arguments import BytesLike, check_key, check_timeout
from persistkit.batches import attempt_each, failures_of, raise_failures, repeat_until_done
from persistkit.engine import Engine
from persistkit.engines.addresses import check_path
from persistkit.engines.files import atomic
from persistkit.engines.files.atomic import create_file, discard, modified_at, new_temp, refused, rename, sync_path
from persistkit.engines.files.cached import CachedReader
from persistkit.engines.files.check import Finding, check
from persistkit.engines.files.listing import change_token, listing, scan
from persistkit.engines.files.owners import OwnerFiles
from persistkit.entry import CHANGED, Entry, sorted_out
from persistkit.errors import BatchError, KeyCollisionError, StorageError
from persistkit.keys import filename_for, is_filename, owner_filename_for, place_for
from persistkit.locking import HAVE_LOCKS, LOCKS_FILENAME, KeyLocks, LockWait
from persistkit.trace import traced

__all__ = ["FileEngine"]

T = TypeVar("T")
Put: TypeAlias = Callable[[str, str], bool]
Time: TypeAlias = datetime | None
Wait: TypeAlias = LockWait | None
# Their syncs share the journal's commits: on ext4, 500 values of 1 KiB take 0.4 of the time of one by one.
_SYNCS_AT_ONCE: Final = 16


class FileEngine(Engine):
    """One file per key, named ``<sanitized key>-<djb2 hash>.bin``, in the directory ``base_dir``.

    A directory that ``FilePersistenceBackend`` of the Rust crate llm-agent-runtime 1.74.0 wrote opens here, and the
    other way round.

    Promises, beyond ``Engine``:

    * With ``fsync`` a save that returned survives a crash of the process, of the system, and a power cut. When the sync
      of the directory, which comes last, fails, the caller sees a ``StorageError`` while the new value is in place.
      ``fsync=False`` leaves the moment of writing to the system.
    * A batch is made durable as one group: when the power goes in the middle, each key has its old value or its new
      one, whole. An interrupt waits for the system calls that have begun.
    * Two keys never share a value; of ten and more special characters and underscores, unless somebody searched for the
      pair (``needs_owner_file``). A key whose filename could be another's, or does not give it back, has an
      *owner file* ``<sanitized>-<hash>.key``. Where a Rust runtime writes too, the last writer of such a name wins.
    * Nothing outside ``base_dir`` is read or written; links, directories and devices are never followed.
    * ``add``, ``replace`` and ``delete_unchanged`` are atomic between processes; ``rename`` removes nothing newer than
      it moved. They and ``lock`` use the hidden file ``.persistkit-locks``, made by the first use and never removed.
      From then on every write locks its key; one that began before cannot be excluded, nor can the Rust runtime.
      Where files cannot be locked (macOS, Windows) they exclude threads alone, and ``lock`` is a lease.

    Args:
        base_dir: the directory; made absolute here, so a later change of the working directory does not matter.
        create: make the directory, and its parents, if it does not exist.
        fsync: make every save durable before it returns.
        timeout_seconds: how long to wait for a lock of another process, in a batch for all of its keys together.

    Raises:
        StorageError: the directory does not exist (and ``create`` is False), is a file, or is not readable.
    """

    keeps_times = True

    def __init__(
        self,
        base_dir: str | os.PathLike[str],
        *,
        create: bool = False,
        fsync: bool = True,
        timeout_seconds: float = 30.0,
    ) -> None:
        check_timeout(timeout_seconds)
        if not os.fspath(base_dir) or "\0" in os.fspath(base_dir):
            raise StorageError(f"open the directory {os.fspath(base_dir)!r}: not a path", errno=errno.EINVAL)
        check_path(base_dir)
        self.base_dir = Path(base_dir).absolute()
        self.fsync = fsync
        # Measured with 64 saves awaited at the same time: syncs share the journal's commits, all else Python's lock.
        self.concurrency = 16 if fsync else 4
        self._root = os.fspath(self.base_dir)
        self._timeout_seconds = timeout_seconds
        self._owners = OwnerFiles(self._root, fsync)
        self._locks = KeyLocks(f"{self._root}/{LOCKS_FILENAME}", self._root)
        with self._errors("open the directory"):
            atomic.open_directory(self.base_dir, create=create, fsync=fsync)
        self._cached = CachedReader(self._root)

    def __repr__(self) -> str:
        return f"FileEngine({self._root!r}{'' if self.fsync else ', fsync=False'})"

    def path_for(self, key: str) -> Path:
        """Return the path of the file that holds, or would hold, the value of ``key``."""
        check_key(key)
        return self.base_dir / filename_for(key)

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value in the file ``filename``, for entries whose key is not known; None when there is none.

        Raises:
            StorageError: ``filename`` is not the name of a value in this directory, or not a regular file.
        """
        with traced("load_filename", filename), self._errors(f"load the file {filename!r}"):
            if not is_filename(filename):
                raise OSError(errno.EINVAL, "not the name of a value (<text>-<16 hex digits>.bin)")
            try:
                return atomic.read_file(f"{self._root}/{filename}")
            except FileNotFoundError:
                self._missing()
                return None

    def check(self, *, repair: bool = False) -> list[Finding]:
        """Return everything in the directory that is not a whole value under a known key, sorted by filename.

        With ``repair`` what is certainly dead is removed: temporary files of persistkit and of the Rust runtime older
        than an hour, and owner files not used for an hour that have no value, or were cut by a crash. A value is never
        touched. ``persistkit.frames.findings_frame`` makes a table of the findings.

        Raises:
            StorageError: the directory cannot be read, or a repair was refused.
        """
        with traced("check"), self._errors("check"):
            return check(self._root, self._owners, repair=repair)

    def _save(self, key: str, value: BytesLike) -> None:
        self._store("save", key, value)

    def _load(self, key: str) -> bytes | None:
        return self._read("load", key, atomic.read_file)

    def _load_buffer(self, key: str) -> BytesLike | None:
        return self._read("load", key, atomic.read_buffer)

    def _load_cached(self, key: str) -> bytes | None:
        name, may_have_owner = place_for(key)
        owner_path = f"{self._root}/{owner_filename_for(name)}" if may_have_owner else None
        return self._cached.read(f"{self._root}/{name}", owner_path)

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        return self._read("load", key, lambda path: atomic.read_range(path, start, size))

    def _exists(self, key: str) -> bool:
        return self._read("look for", key, atomic.is_regular) or False

    def _delete(self, key: str, value: bytes | None = None) -> None:
        if self._remove(key, self._wait(locked=value is not None), value) and self.fsync:
            with self._errors(f"delete {key!r}"):
                sync_path(self._root)

    def _add(self, key: str, value: BytesLike, time: Time = None) -> bool:
        def add(temp: str, path: str) -> bool:
            with suppress(FileExistsError):
                if not atomic.link(temp, path):  # the lock alone must do
                    return not self._exists(key) and rename(temp, path)
                discard(temp)
                return True
            return False

        # First without a lock, so that nothing is written for a key that is there.
        return not self._exists(key) and self._store("add", key, value, add, time=time)

    def _rename(self, key: str, new_key: str) -> bool:
        time, value = self._read("look at", key, lambda path: modified_at(os.lstat(path))), self._load(key)
        if value is None or not self._add(new_key, value, time):
            return False
        self._delete(key, value)
        return True

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        def replace(temp: str, path: str) -> bool:
            return self._load(key) == expected and rename(temp, path)

        return self._load(key) == expected and self._store("replace", key, value, replace)

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        with self._errors(f"lock {key!r}"):
            yield from self._locks.attempts(key) if HAVE_LOCKS else super()._lock_attempts(key)

    def _store(
        self,
        action: str,
        key: str,
        value: BytesLike,
        put: Put = rename,
        time: Time = None,
        wait: LockWait | None = None,
    ) -> bool:
        temp = new_temp(self._root)
        try:
            create_file(temp, value, fsync=self.fsync, time=time)
            stored = self._publish(action, key, temp, put, wait)
            if not stored:
                discard(temp)
            elif self.fsync:
                sync_path(self._root)
        except BaseException as error:
            discard(temp)
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise refused(f"{action} {key!r}", self._root, error) from error
            raise
        return stored

    def _publish(self, action: str, key: str, temp: str, put: Put = rename, wait: Wait = None) -> bool:
        """Make a finished file the value of ``key``, by renaming it, or by what ``put`` does and tells."""
        name, is_owned = self._place(key)
        path = f"{self._root}/{name}"
        if put is rename and not is_owned and not (self._locks_in_use() if wait is None else wait.locked):
            return rename(temp, path)
        with self._held(action, key, name, wait or self._wait(locked=put is not rename), is_owned):
            return put(temp, path)

    def _place(self, key: str) -> tuple[str, bool]:
        """Return the filename of ``key``, and whether whoever changes the value must hold its owner file."""
        name, may_have_owner = place_for(key)
        return name, may_have_owner and self._owners.is_needed(key, name)

    def _wait(self, *, locked: bool = False) -> LockWait:
        """Return how long to wait for locks, and that keys are to be locked: if asked for, or if others do it here."""
        return LockWait(self._timeout_seconds, locked=locked or self._locks_in_use())

    def _locks_in_use(self) -> bool:
        return not HAVE_LOCKS or os.access(self._locks.path, os.F_OK)

    @contextmanager
    def _held(self, action: str, key: str, name: str, wait: LockWait, is_owned: bool) -> Iterator[None]:
        with (
            self._locks.hold(name, wait) if wait.locked else nullcontext(),
            self._owners.hold(action, key, name, wait) if is_owned else nullcontext(),
        ):
            yield

    def _read(self, action: str, key: str, read: Callable[[str], T]) -> T | None:
        name, may_have_owner = place_for(key)
        try:
            try:
                value = read(f"{self._root}/{name}")
            except FileNotFoundError:
                self._missing()
                return None
            return None if may_have_owner and self._owners.owned_by_another(key, name) else value
        except OSError as error:
            raise refused(f"{action} {key!r}", self._root, error) from error

    def _missing(self) -> None:
        """Raise if the directory is missing, not only the file: that is an error, never an absent key."""
        os.stat(self._root)  # noqa: PTH116

    def _remove(self, key: str, wait: LockWait, seen: Entry | bytes | None = None) -> bool:
        """Remove the value, not yet durably, if it is as it was ``seen``, and tell whether it went."""
        name, is_owned = self._place(key)
        path = f"{self._root}/{name}"
        with self._errors(f"delete {key!r}"):
            try:
                if not is_owned and not wait.locked:
                    os.unlink(path)  # noqa: PTH108
                    return True
                # An owner file is for who deletes a value: without one there is nothing another key could lose.
                if is_owned and not self._exists(key):
                    return False
                with self._held("delete", key, name, wait, is_owned):
                    status = os.lstat(path)
                    now = Entry(key, status.st_size, modified_at(status))
                    if isinstance(seen, Entry) and not sorted_out({key: seen}, [now])[0]:
                        return False
                    if isinstance(seen, bytes) and self._load(key) != seen:
                        return False
                    os.unlink(path)  # noqa: PTH108
            except FileNotFoundError:
                self._missing()
                return False
            except KeyCollisionError:
                if self._exists(key):
                    raise
                return False
        return True

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        self._batch_save_at(items, {})

    def _batch_save_at(self, items: dict[str, BytesLike], times: Mapping[str, datetime]) -> None:
        wait = self._wait()
        if not self.fsync:
            attempt_each("batch_save", items, lambda k: self._store("save", k, items[k], time=times.get(k), wait=wait))
            return
        # Write and sync all temporary files, several at a time; rename them all; sync the directory once.
        temps = {key: new_temp(self._root) for key in items}

        def write(key: str) -> None:
            with self._errors(f"save {key!r}"):
                create_file(temps[key], items[key], fsync=True, time=times.get(key))

        def publish(key: str) -> None:
            with self._errors(f"save {key!r}"):
                self._publish("save", key, temps[key], wait=wait)

        try:
            failures = failures_of("batch_save", list(items), write, _SYNCS_AT_ONCE)
            failures |= failures_of("batch_save", [key for key in items if key not in failures], publish)
        finally:
            repeat_until_done(lambda: discard(*temps.values()))
        self._end_batch("save", items, [key for key in items if key not in failures], failures)

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        kept: dict[str, str] = {}
        try:
            self._batch_delete(list(seen), seen)
        except BatchError as error:
            kept = {key: str(reason) for key, reason in error.failures.items()}
        return kept | {key: CHANGED for key in seen if key not in kept and self._exists(key)}

    def _batch_delete(self, keys: list[str], seen: Mapping[str, Entry] | None = None) -> None:
        removed: list[str] = []
        wait = self._wait(locked=seen is not None)

        def remove(key: str) -> None:
            removed.extend([key] * self._remove(key, wait, None if seen is None else seen[key]))

        self._end_batch("delete", keys, removed, failures_of("batch_delete", keys, remove))

    def _end_batch(self, action: str, keys: Collection[str], done: list[str], failures: dict[str, Exception]) -> None:
        """Sync the directory for what is ``done``; when that fails, each of it has failed."""
        try:
            if done and self.fsync:
                sync_path(self._root)
        except OSError as error:
            failures.update((key, refused(f"{action} {key!r}", self._root, error)) for key in done)
        raise_failures(f"batch_{action}", len(keys), failures)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        with self._errors("list"):
            for file, key, ambiguous in listing(self._root, self._owners):
                if prefix and (key is None or not key.startswith(prefix)):
                    continue
                try:
                    status = file.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self._missing()
                    continue
                yield Entry(key, status.st_size, modified_at(status), file.name, ambiguous)

    def _list_keys(self, prefix: str) -> list[str]:
        with self._errors("list"):
            found = listing(self._root, self._owners)
            return sorted([key for _, key, _ in found if key is not None and key.startswith(prefix)])

    def _key_count(self) -> int:
        with self._errors("count"):
            return len(scan(self._root)[0])

    def _change_token(self) -> object:
        with self._errors("look at"):
            return change_token(self._root)

    def _open_reader(self, key: str) -> BufferedIOBase | None:
        name, may_have_owner = place_for(key)
        with self._errors(f"open {key!r}"), ExitStack() as unless_returned:
            try:
                file = atomic.open_reader(f"{self._root}/{name}", f"load {key!r}", self._root)
            except FileNotFoundError:
                self._missing()
                return None
            unless_returned.callback(file.close)
            if may_have_owner and self._owners.owned_by_another(key, name):
                return None
            unless_returned.pop_all()
            return file

    @contextmanager
    def _open_writer_at(self, key: str, time: Time) -> Iterator[IO[bytes]]:
        temp, tried = new_temp(self._root), f"save {key!r}"
        try:
            with atomic.open_writer(temp, key, tried, self._root) as file:
                yield file
            with self._errors(tried):
                if time is not None:
                    atomic.set_time(temp, time)
                if self.fsync:
                    sync_path(temp)
                self._publish("save", key, temp)
                if self.fsync:
                    sync_path(self._root)
        except BaseException:
            discard(temp)
            raise

    def _errors(self, tried: str) -> AbstractContextManager[None]:
        return atomic.errors(tried, self._root)
