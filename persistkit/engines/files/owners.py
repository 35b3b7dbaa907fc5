"""Owners: small files that say which key owns a filename that does not give its key back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import time
from typing import Final

from persistkit.arguments import check_key
from persistkit.engines.files.atomic import EXHAUSTED, READ_FLAGS, create_file, discard, link, new_temp, sync_path
from persistkit.errors import InvalidKeyError, KeyCollisionError
from persistkit.keys import candidates_of, filename_for, needs_owner_file, owner_filename_for, place_for
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
    * an owner file with the old value, before the rename of a new one: the old value, whole;
    * an owner file with a value: the value is stored.

    Where hard links do not exist the owner file is created exclusively and then written, and a crash between the two
    leaves a *torn* one (empty or cut): refused for an hour, replaced afterwards.

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
            descriptor = self._open(owner_name, READ_FLAGS)
            if descriptor is None:
                self._refuse_if_read_as_another(action, key, name)
                self._create(key, owner_name)
                continue
            try:
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
                    young = is_young(os.fstat(descriptor).st_mtime)
            finally:
                os.close(descriptor)
            if owner is not None:
                raise self._collision(action, key, name, f"the key {owner!r} owns")
            if young or not self.remove(owner_name, lambda: True):
                raise self._collision(action, key, name, "another key has an unfinished owner file for")
        raise vanishing(self._path(owner_name))

    def place_for_change(self, key: str) -> tuple[str, bool]:
        """Return the filename of ``key``, and whether there must be an owner file to change the value: or there is."""
        name, may_have_owner = place_for(key)
        if not may_have_owner:
            return name, False
        return name, os.path.lexists(self._path(owner_filename_for(name))) or needs_owner_file(key)

    def owned_by_another(self, key: str, name: str) -> bool:
        """Tell whether the owner file of ``name`` names a key other than ``key``."""
        content = self.content(owner_filename_for(name))
        owner = None if content is None else key_in(content, name)
        return owner is not None and owner != key

    def owner_of(self, name: str) -> tuple[str | None, bool]:
        """Return the key that owns ``name``, if it is known, and whether there is an owner file that cannot be read.

        Raises:
            OSError: the process or the system cannot open more files, which says nothing about the owner.
        """
        try:
            content = self.content(owner_filename_for(name))
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            # check tells; one bad owner file must not hide the whole directory. No regular file names no owner.
            return None, error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO)
        return None if content is None else key_in(content, name), False

    def content(self, owner_name: str) -> bytes | None:
        """Return the first 4 KiB of an owner file, or None when it is missing."""
        descriptor = self._open(owner_name, READ_FLAGS)
        if descriptor is None:
            return None
        try:
            return os.read(descriptor, _MAX_OWNER_BYTES)
        finally:
            os.close(descriptor)

    def remove(self, owner_name: str, still_unused: Callable[[], bool]) -> bool:
        """Remove an owner file not used for an hour, unless somebody locks it or ``still_unused`` says no.

        Returns whether it is gone. One that this process may not write cannot be locked, and stays.
        """
        try:
            # O_RDWR, because an exclusive lock needs a file that is opened for writing.
            descriptor = self._open(owner_name, READ_FLAGS | os.O_RDWR)
        except PermissionError:
            return False
        if descriptor is None:
            return True
        try:
            with file_lock(descriptor, owner_name, None, shared=False) as is_locked:
                if not is_locked:
                    return False
                status = os.fstat(descriptor)
                if status.st_nlink == 0:
                    return True
                if is_young(status.st_mtime) or not still_unused():
                    return False
                os.unlink(self._path(owner_name))  # noqa: PTH108
                return True
        finally:
            os.close(descriptor)

    def _path(self, owner_name: str) -> str:
        return f"{self._root}/{owner_name}"

    def _open(self, owner_name: str, flags: int) -> int | None:
        try:
            return os.open(self._path(owner_name), flags)
        except FileNotFoundError:
            return None

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


def key_in(content: bytes, name: str) -> str | None:
    """Return the key that an owner file's content names, None when it is none or another file's."""
    try:
        key = content.decode()
        check_key(key)
    except (UnicodeDecodeError, InvalidKeyError):
        return None
    return key if filename_for(key) == name else None
