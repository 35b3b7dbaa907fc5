"""Atomic: whole files, written under a temporary name and renamed; links are never followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import BufferedReader, BufferedWriter, FileIO, UnsupportedOperation
from pathlib import Path
from typing import Any, Final, TypeVar

from persistkit.arguments import BytesLike, check_value
from persistkit.errors import PersistenceError, StorageError

__all__ = [
    "EXHAUSTED",
    "READ_FLAGS",
    "create_file",
    "discard",
    "errors",
    "is_regular",
    "link",
    "modified_at",
    "new_temp",
    "open_directory",
    "open_reader",
    "open_writer",
    "read",
    "read_buffer",
    "read_file",
    "read_range",
    "refused",
    "rename",
    "set_time",
    "sync_path",
]

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ONE_READ: Final = 1 << 30
# From here on, fresh bytes take three times as long as reading into large pages: 66 ms against 20 for 100 MB.
_LARGE: Final = 1 << 22
# These errors are about the process or the system that opens a file, not about the file.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

# O_NONBLOCK: do not wait for the writer of a FIFO. O_BINARY exists on Windows only.
READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def open_directory(base_dir: Path, *, create: bool, fsync: bool) -> None:
    """See that the directory is there and can be read; make it, and its parents, if ``create``."""
    if create:
        missing = [path for path in (base_dir, *base_dir.parents) if not path.exists()]
        base_dir.mkdir(parents=True, exist_ok=True)
        if fsync:
            for path in missing:
                sync_path(os.fspath(path.parent))
    with os.scandir(base_dir):
        pass


def new_temp(root: str) -> str:
    """Return the path of a temporary file in ``root`` that nobody else uses."""
    return f"{root}/.persistkit-{os.urandom(16).hex()}.tmp"


def create_file(path: str, content: BytesLike, *, fsync: bool, time: datetime | None = None) -> None:
    """Write a new file, perhaps as changed at a given time; when this fails, the caller removes what there is of it."""
    # 0666, so that the umask decides; tempfile would leave 0600, unreadable for others in a shared directory.
    descriptor = os.open(path, _CREATE, 0o666)
    try:
        written = os.write(descriptor, content)
        while written < len(content):
            written += os.write(descriptor, memoryview(content)[written:])
        if time is not None:
            set_time(descriptor if os.utime in os.supports_fd else path, time)
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_time(file: int | str, time: datetime) -> None:
    """Say that a file was changed at ``time``."""
    nanoseconds = (time - _EPOCH) // _MICROSECOND * 1000
    os.utime(file, ns=(nanoseconds, nanoseconds))


def discard(*paths: str) -> None:
    """Remove temporary files, those that are there and can be removed.

    A failure here must not hide the error that the caller is to see; a file that stays is found by ``check``.
    """
    for path in paths:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def rename(temp: str, path: str) -> bool:
    """Give the finished file ``temp`` the name ``path`` instead of the file that has it; tell that it is done."""
    os.replace(temp, path)  # noqa: PTH105 - a str path, as everywhere here
    return True


def link(temp: str, path: str) -> bool:
    """Give the finished file ``temp`` the name ``path`` too; False where files cannot have two names.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(temp, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def sync_path(path: str) -> None:
    """Make what was written to a file, or renamed in a directory, durable."""
    on_windows = os.name == "nt"  # which opens no directory, and syncs no file that is open for reading alone
    if on_windows and Path(path).is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if on_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str, taken: Callable[[int, int], T]) -> T:
    """Return what is ``taken`` of a regular file, given its descriptor and its size in bytes.

    Raises:
        OSError: there is no file, or it is a link, a directory, or a device.
    """
    descriptor = os.open(path, READ_FLAGS)
    try:
        return taken(descriptor, _regular_size(descriptor, path))
    finally:
        os.close(descriptor)


def read_file(path: str) -> bytes:
    """Return the bytes of a regular file; raises as ``read``."""
    return read(path, _content)


def read_buffer(path: str) -> BytesLike:
    """Return the bytes of a regular file; those of a large one in a writable buffer that nobody else has."""
    return read(path, _in_buffer)


def read_range(path: str, start: int, size: int) -> bytes:
    """Return at most ``size`` bytes of a regular file from ``start`` on; raises as ``read``."""
    # The memory for what is asked for is taken first: no more than there is to read.
    return read(path, lambda descriptor, whole: os.pread(descriptor, max(0, min(size, whole - start)), start))


def _telling(method: Any) -> Any:  # Any: a method of FileIO, and the same one
    def call(self: _RawFile, *given: object) -> Any:
        with errors(self.tried, self.root):
            return method(self, *given)

    return call


class _RawFile(FileIO):
    """A file whose errors are ``StorageError`` from a buffer's point of view as well."""

    def __init__(self, path: str, mode: str, flags: int, tried: str, root: str) -> None:
        self.tried, self.root = tried, root
        super().__init__(path, mode, opener=lambda *_: os.open(path, flags, 0o666))

    readinto, readall, write = map(_telling, (FileIO.readinto, FileIO.readall, FileIO.write))
    seek, truncate, close = map(_telling, (FileIO.seek, FileIO.truncate, FileIO.close))


def open_reader(path: str, tried: str, root: str) -> BufferedReader:
    """Open a regular file for reading; errors say what was ``tried``, and where."""
    raw = _RawFile(path, "rb", READ_FLAGS, tried, root)
    try:
        _regular_size(raw.fileno(), path)
    except BaseException:
        raw.close()
        raise
    return BufferedReader(raw)


class _Writer(BufferedWriter):
    """A new file that takes as a chunk what ``save`` takes as a value."""

    def __init__(self, raw: _RawFile, key: str) -> None:
        super().__init__(raw)
        self._key = key

    def write(self, chunk: BytesLike, /) -> int:  # type: ignore[override]  # narrower: no other buffers
        return super().write(check_value(self._key, chunk))


@contextmanager
def open_writer(path: str, key: str, tried: str, root: str) -> Iterator[BufferedWriter]:
    """Create a file to be written in the block, at whose end it holds everything; errors say what was ``tried``."""
    with errors(tried, root):
        file = _Writer(_RawFile(path, "xb", _CREATE, tried, root), key)
    try:
        yield file
        if not file.closed:
            file.flush()
    finally:
        # What could not be written was reported by flush, and again only by the way.
        with suppress(OSError):
            file.close()


@contextmanager
def errors(tried: str, root: str) -> Iterator[None]:
    """Raise what the system refuses as one ``StorageError`` that says what was tried, and where."""
    try:
        yield
    except (PersistenceError, UnsupportedOperation):
        raise
    except OSError as error:
        raise refused(tried, root, error) from error


def refused(tried: str, root: str, error: OSError) -> StorageError:
    """Return the error to raise for what the system refused."""
    return StorageError(f"{tried} in {root}: {_reason(root, error)}", errno=error.errno)


def _reason(root: str, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
        base_dir = Path(root)
        if any(parent.is_file() for parent in (base_dir, *base_dir.parents)):
            return (
                "this is a file, or lies below one: not a directory; open the directory that holds it "
                "(a SQLite file is sqlite:///path)"
            )
        if not base_dir.exists():
            return "the directory does not exist; check the path, or pass create=True to make it"
    if error.errno == errno.ELOOP:
        return "the file is a symbolic link, which is never followed"
    return error.strerror or str(error)


def modified_at(status: os.stat_result) -> datetime:
    """Return a file's time; the first or the last that Python knows when it lies beyond."""
    try:
        return datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if status.st_mtime > 0 else datetime.min).replace(tzinfo=UTC)


def is_regular(path: str) -> bool:
    """Tell whether this is a regular file, not a link to one."""
    return stat.S_ISREG(os.lstat(path).st_mode)


def _regular_size(descriptor: int, path: str) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{os.path.basename(path)} is not a regular file")  # noqa: PTH119
    return status.st_size


def _content(descriptor: int, size: int) -> bytes:
    """Return the bytes of an open file of ``size`` bytes, or more or fewer if it has changed."""
    if size <= _ONE_READ:
        # One byte more than expected: a short answer is the end of the file, without a second call to see it.
        value = os.read(descriptor, size + 1)
        if len(value) == size:
            return value
        os.lseek(descriptor, 0, os.SEEK_SET)
    # The system reads no more than 2 GiB at once, and joining parts would hold the value twice.
    return os.fdopen(descriptor, "rb", buffering=0, closefd=False).readall()


def _in_buffer(descriptor: int, size: int) -> BytesLike:
    """Return the content of an open file, of a large one in NumPy's memory, which asks the system for large pages."""
    if _LARGE <= size <= _ONE_READ:
        import numpy as np

        buffer = np.empty(size, np.uint8).data
        raw = os.fdopen(descriptor, "rb", buffering=0, closefd=False)
        if raw.readinto(buffer) == size and not raw.read(1):
            return buffer
        raw.seek(0)  # its size has changed meanwhile
    return _content(descriptor, size)
