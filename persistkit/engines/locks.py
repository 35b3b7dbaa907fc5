"""Locks: bytes of one hidden file, each locked for one key, between processes and between threads.

The locks are those of an open file description (``F_OFD_SETLK``, Linux 3.15 and later): the system frees them when
their holder dies, and threads that open the file for themselves exclude each other too. An exclusive one needs a file
opened for writing, so a process that may only read cannot hold one.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Final

if sys.platform == "linux":
    from fcntl import F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK, fcntl

    HAVE_LOCKS: Final = True
else:  # what they protect is then protected among the threads of one process, or by an hour of waiting, as callers say
    HAVE_LOCKS: Final = False
    F_OFD_SETLK = F_RDLCK = F_UNLCK = F_WRLCK = 0

    def fcntl(_descriptor: int, _command: int, _argument: bytes) -> None:
        """Do nothing."""


__all__ = [
    "HAVE_LOCKS",
    "LOCKS_FILENAME",
    "MOST_ATTEMPTS",
    "KeyLocks",
    "LockWait",
    "lock_number",
    "locked",
    "not_in_children",
    "vanishing",
]

LOCKS_FILENAME: Final = ".persistkit-locks"
# How often a file to lock is made, if it is always gone when it is opened: nobody removes one that is in use.
MOST_ATTEMPTS: Final = 8

_FIRST_PAUSE_SECONDS: Final = 0.000_05
_LONGEST_PAUSE_SECONDS: Final = 0.02
_threads: Final = Lock()
_WRITE: Final = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LockWait:
    """How long one operation, or all keys of one batch together, wait for locks that others hold.

    Args:
        timeout_seconds: from the first wait on; later locks are then still tried, once.
        locked: whether the directory had the file of locks when the batch began.
    """

    def __init__(self, timeout_seconds: float, *, locked: bool = False) -> None:
        self.locked = locked
        self._timeout_seconds = timeout_seconds
        self._deadline: float | None = None

    def pause(self, seconds: float, path: str) -> None:
        """Sleep.

        Raises:
            OSError: the time is over.
        """
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._timeout_seconds
        if now >= self._deadline:
            raise OSError(
                errno.EBUSY,
                f"another process or thread has kept a lock on {path} for {self._timeout_seconds:g} s; "
                "find it (lslocks), end it, and try again",
            )
        time.sleep(seconds)


@contextmanager
def locked(
    descriptor: int, path: str, wait: LockWait | None, *, shared: bool, start: int = 0, size: int = 0
) -> Iterator[bool]:
    """Lock ``size`` bytes of an open file (0: all) while the block runs, and give True.

    Without ``wait`` a lock that somebody else has is not waited for: False is given.
    """
    pause = _FIRST_PAUSE_SECONDS
    while not _lock(descriptor, F_RDLCK if shared else F_WRLCK, start, size):
        if wait is None:
            yield False
            return
        wait.pause(pause, path)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    try:
        yield True
    finally:
        # Closing the file is not enough: a child that was forked meanwhile has it open too.
        _lock(descriptor, F_UNLCK, start, size)


class KeyLocks:
    """A file whose bytes are locks; made at the first use, for those who may write ``guarded``.

    Args:
        path: of the file.
        guarded: path of the directory or the file that the locks are for.
    """

    def __init__(self, path: str, guarded: str) -> None:
        self.path = path
        self._guarded = guarded

    @contextmanager
    def hold(self, filename: str, wait: LockWait) -> Iterator[None]:
        """Lock the byte numbered by a filename's hash while the block runs: the value of its key is being changed."""
        if not HAVE_LOCKS:
            with _threads:
                yield
            return
        byte = int(filename[-20:-4], 16) >> 1  # positions in a file have 63 bits
        with closing(self._attempts(byte)) as attempts:
            pause = _FIRST_PAUSE_SECONDS
            while not next(attempts):
                wait.pause(pause, self.path)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            yield

    def attempts(self, name: str) -> Generator[bool, None, None]:
        """Try to lock the byte numbered by the hash of ``name``, as ``locking.lock_attempts``."""
        # Not the byte of the key itself, or whoever has the lock could not save.
        return self._attempts(lock_number(name) >> 1)

    def _attempts(self, byte: int) -> Generator[bool, None, None]:
        for _ in range(MOST_ATTEMPTS):
            descriptor = self._open()

            def close(descriptor: int = descriptor) -> None:
                _lock(descriptor, F_UNLCK, byte, 1)  # a child may be about to close its copy
                os.close(descriptor)

            with not_in_children(descriptor, close):
                while not _lock(descriptor, F_WRLCK, byte, 1):
                    yield False
                if os.fstat(descriptor).st_nlink:
                    yield True
                    return
        raise vanishing(self.path)

    def _open(self) -> int:
        for _ in range(MOST_ATTEMPTS):
            try:
                return os.open(self.path, _WRITE)
            except FileNotFoundError:
                self._create()
            except PermissionError as error:
                reason = f"{error.strerror}: {self.path}; let everybody who writes beside it write this file"
                raise PermissionError(error.errno, reason) from error
        raise vanishing(self.path)

    def _create(self) -> None:
        """Make the file, for those alone who may write what it guards: whoever can read it could lock others out."""
        status = os.stat(self._guarded)  # noqa: PTH116
        writers = stat.S_IMODE(status.st_mode) & 0o222
        temp = f"{Path(self.path).parent}/.persistkit-{os.urandom(16).hex()}.tmp"
        try:
            descriptor = os.open(temp, _WRITE | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                for user in (status.st_uid, -1):
                    with suppress(PermissionError):
                        os.fchown(descriptor, user, status.st_gid)
                        break
                os.fchmod(descriptor, writers | writers << 1)
            finally:
                os.close(descriptor)
            try:
                os.link(temp, self.path)
            except FileExistsError:
                return
            except OSError:  # files cannot have two names here
                os.close(os.open(self.path, _WRITE | os.O_CREAT, 0o600))
        finally:
            with suppress(OSError):
                os.unlink(temp)  # noqa: PTH108


def vanishing(path: str) -> OSError:
    """Return the error for a file that was made, or was there, again and again, and is gone each time."""
    return OSError(errno.EBUSY, f"the file {path} was made {MOST_ATTEMPTS} times and is gone each time")


def lock_number(name: str) -> int:
    """Return the number, of 64 bits, of the lock with this name."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


@contextmanager
def not_in_children(descriptor: int, close: Callable[[], object]) -> Iterator[None]:
    """Call ``close`` at the end of the block; a child that is forked meanwhile closes its copy of ``descriptor`` only.

    Otherwise a lock would not end with its holder, but with the last child, and each child would unlock it.
    """
    process = os.getpid()
    _not_for_children.add(descriptor)
    try:
        yield
    finally:
        if process == os.getpid():
            _not_for_children.discard(descriptor)
            close()


_not_for_children: Final[set[int]] = set()


def _after_fork() -> None:
    while _not_for_children:
        os.close(_not_for_children.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _lock(descriptor: int, kind: int, start: int, size: int) -> bool:
    try:
        fcntl(descriptor, F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, size, 0))
    except (BlockingIOError, PermissionError):  # POSIX leaves open which
        return False
    return True
