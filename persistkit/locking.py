"""Locking: waiting for a lock, and what is a lock: a name in the process, a value (the lease), a byte of a hidden file.

The bytes are locked for an open file description (``F_OFD_SETLK``, Linux 3.15 and later): the system frees them when
their holder dies, and threads that open the file for themselves exclude each other too. An exclusive one needs a file
opened for writing, so a process that may only read cannot hold one.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path
from threading import Event, Thread, get_ident
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from persistkit.arguments import MAX_KEY_BYTES
from persistkit.errors import StorageError
from persistkit.trace import traced

if TYPE_CHECKING:
    from persistkit.engine import Engine

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
    "file_lock",
    "lease_attempts",
    "local_attempts",
    "lock_attempts",
    "lock_number",
    "locked",
    "not_in_children",
    "pause_after",
    "vanishing",
]

LOCKS_FILENAME: Final = ".persistkit-locks"
# How often a file to lock is made or opened, if it is gone each time: nobody removes one that is in use.
MOST_ATTEMPTS: Final = 8

_FIRST_PAUSE_SECONDS: Final = 0.000_05
_LONGEST_PAUSE_SECONDS: Final = 0.02
_WRITE: Final = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_LEASE_SECONDS: Final = 20.0
_MARK: Final = b"locked by persistkit, "
_holders: Final[dict[tuple[object, ...], tuple[object, object]]] = {}


def pause_after(waited_seconds: float) -> float:
    """Return how many seconds to wait before trying again: little at first, and never more than half a second."""
    return min(max(waited_seconds / 10, 0.0005), 0.5)


@contextmanager
def locked(engine: Engine, key: str, timeout_seconds: float | None) -> Iterator[None]:
    """Hold the lock of ``key`` while the block runs, as ``Engine.lock``."""
    with closing(lock_attempts(engine, key, get_ident())) as attempts:
        with traced("lock", key):
            began = time.monotonic()
            while not next(attempts):
                waited = time.monotonic() - began
                if timeout_seconds is not None and waited >= timeout_seconds:
                    raise TimeoutError(f"lock {key!r}: somebody else has had it for {timeout_seconds:g} s; try later")
                time.sleep(pause_after(waited))
        yield


def lock_attempts(engine: Engine, key: str, owner: object) -> Generator[bool, None, None]:
    """Try once for each step to get the lock of ``key``, and tell whether it is held now; to close gives it back.

    One of this process at a time asks the storage, or a hundred waiting threads would need a hundred connections.

    Raises:
        RuntimeError: ``owner``, a thread or a task, has the lock already, and would wait for itself.
    """
    with closing(local_attempts(id(engine), key, owner=owner)) as here, closing(engine._lock_attempts(key)) as there:
        while not next(here):
            yield False
        while not next(there):
            yield False
        yield True


def local_attempts(*name: object, owner: object = None) -> Generator[bool, None, None]:
    """Try to get the lock with this name among the threads and tasks of the process, as ``lock_attempts``."""
    place, mine = (os.getpid(), *name), (owner, object())  # a fork copies what other threads hold
    while (holder := _holders.setdefault(place, mine)) is not mine:
        if owner is not None and holder[0] == owner:
            raise RuntimeError(f"lock {name[-1]!r}: the one who asks has it already, and would wait for ever")
        yield False
    try:
        yield True
    finally:
        del _holders[place]


def lease_attempts(engine: Engine, key: str, seconds: float = _LEASE_SECONDS) -> Generator[bool, None, None]:
    """Try to get the lease on ``key``, as ``lock_attempts``; one that stood still for ``seconds`` is taken.

    Raises:
        StorageError: what is stored under the lease's key is no lease, and is not touched.
    """
    place = f"{key}.lock"
    if len(place.encode()) > MAX_KEY_BYTES:
        place = f"{sha256(key.encode()).hexdigest()}.lock"
    mine = _MARK + f"{uuid4().hex} {socket.gethostname()} {os.getpid()}, renewed at ".encode()
    seen: bytes | None = None
    since = 0.0
    while True:
        found = engine._load(place)
        if found is None:
            is_held = engine._add(place, _renewed(mine))
        elif not found.startswith(_MARK):
            raise StorageError(f"lock {key!r} in {engine!r}: the value of {place!r} is in the way; move it")
        elif found != seen:
            seen, since, is_held = found, time.monotonic(), False
        else:
            is_held = time.monotonic() - since > seconds and engine._replace(place, _renewed(mine), found)
        if is_held:
            break
        yield False
    released = Event()
    renewing = Thread(target=_renew, args=(engine, place, mine, seconds / 4, released), daemon=True)
    process = os.getpid()
    renewing.start()
    try:
        yield True
    finally:
        if process == os.getpid():  # a child that was forked meanwhile holds nothing
            released.set()
            renewing.join()
            with suppress(StorageError):  # what was done under it counts, and others take it over
                found = engine._load(place)
                if found is not None and found.startswith(mine):
                    engine._delete(place)


def _renew(engine: Engine, place: str, mine: bytes, pause_seconds: float, released: Event) -> None:
    while not released.wait(pause_seconds):
        with suppress(StorageError):  # it is tried again, before others take the lease for that of the dead
            found = engine._load(place)
            if found is None or not found.startswith(mine):
                return
            engine._replace(place, _renewed(mine), found)


def _renewed(mine: bytes) -> bytes:
    return mine + str(time.time_ns()).encode()


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

    def until(self, is_locked: Callable[[], bool], path: str) -> None:
        """Try again and again until ``is_locked``.

        Raises:
            OSError: the time is over.
        """
        pause = _FIRST_PAUSE_SECONDS
        while not is_locked():
            now = time.monotonic()
            if self._deadline is None:
                self._deadline = now + self._timeout_seconds
            if now >= self._deadline:
                raise OSError(
                    errno.EBUSY,
                    f"another process or thread has kept a lock on {path} for {self._timeout_seconds:g} s; "
                    "find it (lslocks), end it, and try again",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


@contextmanager
def file_lock(descriptor: int, path: str, wait: LockWait | None, *, shared: bool) -> Iterator[bool]:
    """Lock an open file while the block runs, and give True.

    Without ``wait`` a lock that somebody else has is not waited for: False is given.
    """
    lock = partial(_lock, descriptor, F_RDLCK if shared else F_WRLCK)
    if wait is not None:
        wait.until(lock, path)
    elif not lock():
        yield False
        return
    try:
        yield True
    finally:
        # Closing the file is not enough: a child that was forked meanwhile has it open too.
        _lock(descriptor, F_UNLCK)


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
        byte = int(filename[-20:-4], 16) >> 1  # positions in a file have 63 bits
        # By the number alone: two engines may have written the path of one directory in two ways.
        with closing(self._attempts(byte) if HAVE_LOCKS else local_attempts(LOCKS_FILENAME, byte)) as attempts:
            wait.until(partial(next, attempts), self.path)
            yield

    def attempts(self, name: str) -> Generator[bool, None, None]:
        """Try to lock the byte numbered by the hash of ``name``, as ``lock_attempts``."""
        # Not the byte of the key itself, or whoever has the lock could not save.
        return self._attempts(lock_number(name) >> 1)

    def _attempts(self, byte: int) -> Generator[bool, None, None]:
        for _ in range(MOST_ATTEMPTS):
            try:
                descriptor = os.open(self.path, _WRITE)
            except FileNotFoundError:
                self._create()
                continue
            except PermissionError as error:
                reason = f"{error.strerror}: {self.path}; let everybody who writes beside it write this file"
                raise PermissionError(error.errno, reason) from error

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


def _lock(descriptor: int, kind: int, start: int = 0, size: int = 0) -> bool:
    """Lock or unlock ``size`` bytes of an open file (0: all); tell whether it was possible."""
    try:
        fcntl(descriptor, F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, size, 0))
    except (BlockingIOError, PermissionError):  # POSIX leaves open which
        return False
    return True
