"""Claims: companion files that say which key holds a filename that does not give its key back."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import time
from typing import TYPE_CHECKING, Final

from persistkit.errors import InvalidKeyError, KeyCollisionError
from persistkit.filenames import claim_name_for, filename_for, keys_for
from persistkit.operations import check_key

if TYPE_CHECKING:
    from persistkit.backends.files import Files

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
else:  # no advisory locks on files there; the hour of grace alone protects a claim
    LOCK_EX = LOCK_NB = LOCK_SH = 0

    def flock(_descriptor: int, _operation: int) -> None:
        """Do nothing."""


__all__ = ["Claims", "is_young"]

_GRACE_SECONDS: Final = 3600.0

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_MAX_CLAIM_BYTES: Final = 4096


class Claims:
    """The companions ``<sanitized>-<hash>.key`` of a directory, each holding one key in UTF-8.

    A key whose filename may belong to another key as well, is cut, or does not give its key back is *claimed*
    before its value is written. What a crash can leave, and what the next call does with it:

    * a temp file, before the link: no claim; ``check(repair=True)`` removes it after an hour;
    * a claim without a value, before the value's rename: the key is absent for every reader; the same key saves
      again, another one is refused until ``check(repair=True)`` removes the claim, an hour after its last use;
    * a claim with the old value, before the rename of a new one: the old value, whole;
    * a claim with a value: the value is stored.

    Where hard links do not exist the companion is created exclusively and then written, and a crash between the two
    leaves a *torn* claim (empty or cut): refused for an hour, replaced afterwards.

    The holder of a claim keeps a shared lock on the companion until its value is written, so that a repair at the
    same moment cannot take the claim away under it.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    @contextmanager
    def hold(self, key: str, name: str, action: str = "save") -> Iterator[None]:
        """Claim the file ``name`` for ``key`` and keep the claim while the block changes the value.

        Raises:
            KeyCollisionError: another key holds the file, or would read it as its own. Nothing was written.
        """
        companion = claim_name_for(name)
        while True:
            descriptor = self._open(companion)
            if descriptor is None:
                self._refuse_if_read_as_another(action, key, name)
                self._create(key, companion)
                continue
            try:
                flock(descriptor, LOCK_SH)
                if os.fstat(descriptor).st_nlink == 0:
                    continue
                holder = _key_from(os.read(descriptor, _MAX_CLAIM_BYTES), name)
                if holder == key:
                    # Another user of a shared directory may not touch the time; the lock protects the claim as well.
                    with suppress(PermissionError):
                        os.utime(descriptor)
                    yield
                    return
                young = is_young(os.fstat(descriptor).st_mtime)
            finally:
                os.close(descriptor)
            if holder is not None:
                raise KeyCollisionError(self._collision(action, key, name, f"the key {holder!r} holds"))
            if young or not self.remove(companion, lambda: True):
                raise KeyCollisionError(self._collision(action, key, name, "an unfinished claim of another key is on"))

    def held_by_another(self, key: str, name: str) -> bool:
        """Tell whether the companion of ``name`` names a key other than ``key``."""
        holder = self.key_in(claim_name_for(name), name)
        return holder is not None and holder != key

    def key_in(self, companion: str, name: str) -> str | None:
        """Return the key that ``companion`` claims ``name`` for; None when it is missing, torn or does not fit."""
        content = self.content(companion)
        return None if content is None else _key_from(content, name)

    def content(self, companion: str) -> bytes | None:
        """Return the first 4 KiB of a companion, or None when it is missing."""
        descriptor = self._open(companion)
        if descriptor is None:
            return None
        try:
            return os.read(descriptor, _MAX_CLAIM_BYTES)
        finally:
            os.close(descriptor)

    def remove(self, companion: str, still_dead: Callable[[], bool]) -> bool:
        """Remove a companion not used for an hour, unless somebody holds it or ``still_dead`` says no.

        Returns whether it is gone.
        """
        descriptor = self._open(companion)
        if descriptor is None:
            return True
        try:
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                return False
            status = os.fstat(descriptor)
            if status.st_nlink == 0:
                return True
            if is_young(status.st_mtime) or not still_dead():
                return False
            os.unlink(self._files.path_of(companion))  # noqa: PTH108
            return True
        finally:
            os.close(descriptor)

    def _open(self, companion: str) -> int | None:
        try:
            return os.open(self._files.path_of(companion), _READ)
        except FileNotFoundError:
            return None

    def _create(self, key: str, companion: str) -> None:
        """Create the companion, durably, unless somebody else just did."""
        path = self._files.path_of(companion)
        temp = self._files.write_temp(key.encode())
        try:
            os.link(temp, path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._create_without_links(key, path)
        finally:
            self._files.discard(temp)
        self._files.sync()

    def _create_without_links(self, key: str, path: str) -> None:
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                flock(descriptor, LOCK_SH)
                os.write(descriptor, key.encode())
                if self._files.fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _refuse_if_read_as_another(self, action: str, key: str, name: str) -> None:
        """Refuse a key whose name reads as exactly one other key: that one needs no claim, and would overwrite it."""
        (reading,) = keys_for([name], thorough=False)
        if len(reading.keys) == 1 and reading.keys[0] != key:
            raise KeyCollisionError(self._collision(action, key, name, f"the key {reading.keys[0]!r} owns"))

    def _collision(self, action: str, key: str, name: str, reason: str) -> str:
        return f"{action} {key!r} in {self._files.base_dir}: {reason} the file {name}; choose another key"


def is_young(modified: float) -> bool:
    """Tell whether a file of this time, in seconds since 1970, may belong to a writer that is alive.

    Not if it was written more than an hour ago; nor if it is to be written in more than an hour: then the clock has
    jumped back, and without this rule the file would be in the way until the clock is there again.
    """
    return abs(time() - modified) < _GRACE_SECONDS


def _key_from(content: bytes, name: str) -> str | None:
    try:
        key = content.decode()
        check_key(key)
    except (UnicodeDecodeError, InvalidKeyError):
        return None
    return key if filename_for(key) == name else None
