"""Owners: small files that say which key owns a filename that does not give its key back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import time
from typing import Final

from persistkit.arguments import check_key
from persistkit.engines.files.atomic import EXHAUSTED, READ_FLAGS, create_file, discard, link, new_temp, sync_path
from persistkit.errors import InvalidKeyError, KeyCollisionError
from persistkit.keys import candidates_of, filename_for, needs_owner_file, owner_filename_for
from persistkit.locking import MOST_ATTEMPTS, LockWait, file_lock, vanishing

__all__ = ["OwnerFiles", "is_young", "key_in"]

_GRACE_SECONDS: Final = 3600.0
_MAX_OWNER_BYTES: Final = 4096


class OwnerFiles:
    """The owner files ``<sanitized>-<hash>.key`` of a directory, each holding one key in UTF-8.

    A key whose filename may belong to another key as well, is cut, or does not give its key back gets an owner file
    before its value is written. What a crash can leave, and what the next call does with it:

    * a temporary file, before the link: no owner; ``check(repair=True)`` removes it after an hour;
    * an owner file without a value, before the value's rename: the key is absent for every reader; the same key saves
      again, another one is refused until ``check(repair=True)`` removes the owner file, an hour after its last use;
    * where hard links do not exist, a *torn* one (empty or cut), since it is created exclusively and then written:
      refused for an hour, replaced afterwards.

    Who saves has a shared lock on the owner file until the value is written, so that a repair at the same moment, which
    needs an exclusive lock, cannot take it away. Nobody without write permission can have an exclusive one.
    """

    def __init__(self, root: str, fsync: bool) -> None:
        self._root = root
        self._fsync = fsync

    @contextmanager
    def hold(self, action: str, key: str, name: str, wait: LockWait) -> Iterator[None]:
        """Make ``key`` the owner of the file ``name``, and keep it so while the block changes the value.

        Raises:
            KeyCollisionError: another key owns the file, or would read it as its own. Nothing was written.
            OSError: an exclusive lock was waited for too long.
        """
        owner_name = owner_filename_for(name)
        for _ in range(MOST_ATTEMPTS):
            with self._opened(owner_name, READ_FLAGS) as descriptor:
                if descriptor is None:
                    self._refuse_if_read_as_another(action, key, name)
                    self._create(key, owner_name)
                    continue
                with file_lock(descriptor, owner_name, wait, shared=True):
                    if os.fstat(descriptor).st_nlink == 0:
                        continue
                    owner = key_in(os.read(descriptor, _MAX_OWNER_BYTES), name)
                    if owner == key:
                        # Another user of a shared directory may not touch the time; the lock protects the file too.
                        with suppress(PermissionError):
                            os.utime(descriptor)
                        yield
                        return
            if owner is not None:
                raise self._collision(action, key, name, f"the key {owner!r} owns")
            if not self.remove_dead(name):
                raise self._collision(action, key, name, "another key has an unfinished owner file for")
        raise vanishing(self._path(owner_name))

    def is_needed(self, key: str, name: str) -> bool:
        """Tell whether there must be an owner file to change the value of ``key``, or there is one."""
        return os.path.lexists(self._path(owner_filename_for(name))) or needs_owner_file(key)

    def owned_by_another(self, key: str, name: str) -> bool:
        """Tell whether the owner file of ``name`` names a key other than ``key``."""
        return key_in(self.content(name), name) not in (None, key)

    def owner_of(self, name: str) -> tuple[str | None, bool]:
        """Return the key that owns ``name``, if it is known, and whether there is an owner file that cannot be read.

        Raises:
            OSError: the process or the system cannot open more files, which says nothing about the owner.
        """
        try:
            return key_in(self.content(name), name), False
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            # check tells; one bad owner file must not hide the whole directory. No regular file names no owner.
            return None, error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO)

    def content(self, name: str) -> bytes | None:
        """Return the first 4 KiB of the owner file of ``name``, or None when it is missing."""
        try:
            descriptor = os.open(self._path(owner_filename_for(name)), READ_FLAGS)
        except FileNotFoundError:
            return None
        try:
            return os.read(descriptor, _MAX_OWNER_BYTES)
        finally:
            os.close(descriptor)

    def remove_dead(self, name: str) -> bool:
        """Remove the owner file of ``name`` if it names no key or there is no value, and nobody used it for an hour.

        Returns whether it is gone. One that this process may not write, and so cannot lock, or not remove, stays.
        """
        owner_name = owner_filename_for(name)
        with suppress(PermissionError), self._opened(owner_name, READ_FLAGS | os.O_RDWR) as descriptor:
            if descriptor is None:
                return True
            with file_lock(descriptor, owner_name, None, shared=False) as is_locked:
                status = os.fstat(descriptor)
                if status.st_nlink == 0:
                    return True
                is_whole = key_in(os.read(descriptor, _MAX_OWNER_BYTES), name) is not None
                is_used = is_whole and os.path.lexists(self._path(name))
                if is_locked and not is_used and not is_young(status.st_mtime):
                    os.unlink(self._path(owner_name))  # noqa: PTH108
                    return True
        return False

    def _path(self, owner_name: str) -> str:
        return f"{self._root}/{owner_name}"

    @contextmanager
    def _opened(self, owner_name: str, flags: int) -> Iterator[int | None]:
        try:
            descriptor = os.open(self._path(owner_name), flags)
        except FileNotFoundError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _create(self, key: str, owner_name: str) -> None:
        """Create the owner file, durably, unless somebody else just did."""
        path, temp = self._path(owner_name), new_temp(self._root)
        try:
            create_file(temp, key.encode(), fsync=self._fsync)
            if not link(temp, path):
                create_file(path, key.encode(), fsync=self._fsync)
        except FileExistsError:
            return
        finally:
            discard(temp)
        if self._fsync:
            sync_path(self._root)

    def _refuse_if_read_as_another(self, action: str, key: str, name: str) -> None:
        """Refuse a key whose name reads as exactly one other key: that one has no owner file and would overwrite it."""
        (candidates,) = candidates_of([name], thorough=False)
        if len(candidates.keys) == 1 and candidates.keys[0] != key:
            raise self._collision(action, key, name, f"the key {candidates.keys[0]!r} owns")

    def _collision(self, action: str, key: str, name: str, reason: str) -> KeyCollisionError:
        return KeyCollisionError(f"{action} {key!r} in {self._root}: {reason} the file {name}; choose another key")


def is_young(modified: float) -> bool:
    """Tell whether a file of this time, in seconds since 1970, may belong to a writer that is alive.

    Not if it was written more than an hour ago; nor if it is to be written in more than an hour: then the clock has
    jumped back, and without this rule the file would be in the way until the clock is there again.
    """
    return abs(time() - modified) < _GRACE_SECONDS


def key_in(content: bytes | None, name: str) -> str | None:
    """Return the key that an owner file's content names, None when it is none or another file's."""
    if content is None:
        return None
    try:
        key = content.decode()
        check_key(key)
    except (UnicodeDecodeError, InvalidKeyError):
        return None
    return key if filename_for(key) == name else None
