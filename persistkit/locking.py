"""Locking: waiting for a lock, and the lease, a lock that is a value, for storage without better ones."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from threading import Event, Thread, get_ident
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from persistkit.arguments import MAX_KEY_BYTES
from persistkit.errors import StorageError
from persistkit.trace import traced

if TYPE_CHECKING:
    from persistkit.engine import Engine

__all__ = ["lease_attempts", "local_attempts", "lock_attempts", "locked", "pause_after"]

_LEASE_SECONDS: Final = 20.0
_MARK: Final = b"locked by persistkit, "
_holders: Final[dict[tuple[object, ...], tuple[object, object]]] = {}


def pause_after(waited_seconds: float) -> float:
    """Return how many seconds to wait before trying again: little at first, and never more than half a second."""
    return min(max(waited_seconds / 10, 0.0005), 0.5)


@contextmanager
def locked(engine: Engine, key: str, timeout_seconds: float | None) -> Iterator[None]:
    """Hold the lock of ``key`` while the block runs, as ``Engine.lock``."""
    attempts = lock_attempts(engine, key, get_ident())
    try:
        with traced("lock", key):
            began = time.monotonic()
            while not next(attempts):
                waited = time.monotonic() - began
                if timeout_seconds is not None and waited >= timeout_seconds:
                    raise TimeoutError(f"lock {key!r}: somebody else has had it for {timeout_seconds:g} s; try later")
                time.sleep(pause_after(waited))
        yield
    finally:
        attempts.close()


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
