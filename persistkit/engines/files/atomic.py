"""Files: the files of one directory by name, every write atomic, nothing outside ever read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader, BufferedWriter, FileIO
from pathlib import Path
from typing import Final

from persistkit.errors import PersistenceError, StorageError
from persistkit.operations import BytesLike

__all__ = ["EXHAUSTED", "TEMP_PREFIX", "TEMP_SUFFIX", "Files", "modified_at", "sync_path"]

TEMP_PREFIX: Final = ".persistkit-"
TEMP_SUFFIX: Final = ".tmp"

_ONE_READ: Final = 1 << 30
# From here on, fresh bytes cost three times what reading into large pages does: 66 ms of 20 for 100 MB.
_LARGE: Final = 1 << 22
# These tell of the process or the system that tried to open a file, and nothing of the file.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# Read without following a link out of the directory, and without waiting for a FIFO's writer. O_CLOEXEC is Python's
# default; O_BINARY exists on Windows only.
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Files:
    """The files of one directory: whole bytes by filename, in plain system calls.

    A write goes to a temp file in the same directory, which is synced, renamed over the old file, and followed by a
    sync of the directory (both syncs only with ``fsync``). Links are never followed out of the directory.
    """

    def __init__(self, base_dir: str | os.PathLike[str], *, create: bool, fsync: bool) -> None:
        if not os.fspath(base_dir) or "\0" in os.fspath(base_dir):
            raise StorageError(f"open the directory {os.fspath(base_dir)!r}: not a path", errno=errno.EINVAL)
        self.base_dir = Path(base_dir).absolute()
        self.fsync = fsync
        self.root = os.fspath(self.base_dir)
        self._open(create=create)

    def _open(self, *, create: bool) -> None:
        with self.errors("open the directory"):
            if create:
                missing = [path for path in (self.base_dir, *self.base_dir.parents) if not path.exists()]
                self.base_dir.mkdir(parents=True, exist_ok=True)
                if self.fsync:
                    for path in missing:
                        sync_path(os.fspath(path.parent))
            mode = self.base_dir.stat().st_mode
            if not stat.S_ISDIR(mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            with os.scandir(self.root):
                pass

    def path_of(self, name: str) -> str:
        """Return the path of the file ``name`` directly inside the directory."""
        return f"{self.root}/{name}"

    def new_temp(self) -> str:
        """Return the path of a temp file nobody else uses."""
        return f"{self.root}/{TEMP_PREFIX}{os.urandom(16).hex()}{TEMP_SUFFIX}"

    def write_temp(self, content: BytesLike) -> str:
        """Write a new temp file, synced if ``fsync``, and return its path; nothing is left when it fails."""
        temp = self.new_temp()
        try:
            # 0666, so that the umask decides; tempfile would leave 0600, unreadable for others in a shared directory.
            descriptor = os.open(temp, _CREATE, 0o666)
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
            os.replace(temp, f"{self.root}/{name}")  # noqa: PTH105
        except BaseException:
            self.discard(temp)
            raise

    def sync(self) -> None:
        """Make renames and removals in the directory durable, if ``fsync``."""
        if self.fsync:
            sync_path(self.root)

    def open_temp(self, temp: str) -> BufferedWriter:
        """Create the temp file ``temp`` and open it for writing."""
        return BufferedWriter(_raw(os.open(temp, _CREATE, 0o666), "wb"))

    def discard(self, temp: str) -> None:
        """Remove a temp file that will not become a value, if it is there and can be removed.

        A failure here must not hide the error that the caller is to see; a temp file that stays is found by ``check``.
        """
        with suppress(OSError):
            os.unlink(temp)  # noqa: PTH108

    def open_regular(self, name: str) -> tuple[int, int] | None:
        """Return descriptor and size of the regular file ``name``, or None when it does not exist."""
        descriptor = self._open_any(name)
        if descriptor is None:
            return None
        try:
            return descriptor, _regular_size(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def open_buffered(self, name: str) -> tuple[BufferedReader, int] | None:
        """Open the regular file ``name`` for reading in chunks and return it with its size; None without one."""
        opened = self.open_regular(name)
        return None if opened is None else (BufferedReader(_raw(opened[0], "rb")), opened[1])

    def read(self, name: str) -> bytes | None:
        """Return the bytes of the regular file ``name``, or None when it does not exist."""
        descriptor = self._open_any(name)
        if descriptor is None:
            return None
        try:
            return _content(descriptor, _regular_size(descriptor, name))
        finally:
            os.close(descriptor)

    def read_buffer(self, name: str) -> BytesLike | None:
        """Return the content of a file as ``read`` does; a large one in a writable buffer nobody else has."""
        opened = self.open_regular(name)
        if opened is None:
            return None
        descriptor, size = opened
        try:
            return _in_buffer(descriptor, size) if _LARGE <= size <= _ONE_READ else _content(descriptor, size)
        finally:
            os.close(descriptor)

    def _open_any(self, name: str) -> int | None:
        try:
            return os.open(f"{self.root}/{name}", _READ)
        except FileNotFoundError:
            self.still_there()
            return None

    def unlink(self, name: str) -> bool:
        """Remove the file ``name``, not yet durably, and tell whether it was there."""
        try:
            os.unlink(f"{self.root}/{name}")  # noqa: PTH108
        except FileNotFoundError:
            self.still_there()
            return False
        return True

    def still_there(self) -> None:
        """Tell a missing file from a missing directory: the second is an error, never an absent key."""
        os.stat(self.root)  # noqa: PTH116

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
        return StorageError(f"{tried} in {self.root}: {self._reason(error)}", errno=error.errno)

    def _reason(self, error: OSError) -> str:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
            if any(parent.is_file() for parent in (self.base_dir, *self.base_dir.parents)):
                return (
                    "this is a file, or lies below one: not a directory; open the directory that holds it "
                    "(a SQLite file is sqlite:///path)"
                )
            if not self.base_dir.exists():
                return "the directory does not exist; check the path, or pass create=True to make it"
        if error.errno == errno.ELOOP:
            return "the file is a symbolic link, which is never followed"
        return reason


def _regular_size(descriptor: int, name: str) -> int:
    """Return the size of an open file, in bytes; refuse what is no regular file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{name} is not a regular file")
    return status.st_size


def _content(descriptor: int, size: int) -> bytes:
    """Return the bytes of an open file of ``size`` bytes, or more if it has grown."""
    if size > _ONE_READ:
        # The system reads no more than 2 GiB at once, and joining parts would hold the value twice.
        return os.fdopen(descriptor, "rb", buffering=0, closefd=False).readall()
    # One byte more than expected: a short answer is the end of the file, without a second call to see it.
    value = os.read(descriptor, size + 1)
    if len(value) == size:
        return value
    chunks = [value]
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _in_buffer(descriptor: int, size: int) -> BytesLike:
    """Return the content of an open file in memory of NumPy's, which asks the system for large pages."""
    import numpy as np

    buffer = np.empty(size, np.uint8).data
    raw = os.fdopen(descriptor, "rb", buffering=0, closefd=False)
    if raw.readinto(buffer) == size and not raw.read(1):
        return buffer
    raw.seek(0)  # its size has changed meanwhile
    return raw.readall()


def _raw(descriptor: int, mode: str) -> FileIO:
    """Return a file on ``descriptor``, which is closed when that fails."""
    try:
        return FileIO(descriptor, mode)
    except OSError:
        # Not for an interrupt: the file is made then, and closes the descriptor itself.
        os.close(descriptor)
        raise


def modified_at(status: os.stat_result) -> datetime:
    """Return a file's time; the first or the last that Python knows when it lies beyond."""
    try:
        return datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if status.st_mtime > 0 else datetime.min).replace(tzinfo=UTC)


def sync_path(path: str) -> None:
    """Make what was written to a file, or renamed in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
