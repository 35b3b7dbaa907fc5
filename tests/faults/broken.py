"""Broken writers: the file backend with one flaw each, which the tests must catch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from threading import Event

from persistkit import FilePersistenceBackend
from persistkit.backend import raise_failures
from persistkit.backends.directory import Directory
from persistkit.backends.files import sync_path
from persistkit.filenames import claim_name_for, filename_for, needs_claim, place_for
from persistkit.operations import BytesLike

__all__ = [
    "Blind",
    "Clumsy",
    "Copying",
    "Deaf",
    "Directory",
    "Disturbed",
    "Forgetful",
    "Hopeful",
    "InPlace",
    "Late",
    "Touching",
    "WithoutDirectorySync",
    "WithoutFileSync",
    "backend_of",
]


class Copying(Directory):
    """Copies a new value over the old one instead of renaming it, and empties a file before it removes it."""

    def replace(self, name: str, temp: str) -> None:
        """Copy."""
        with open(temp, "rb") as source:
            target = os.open(self.path_of(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                while chunk := source.read(8 * 1024):
                    os.write(target, chunk)
            finally:
                os.close(target)
        os.unlink(temp)

    def unlink(self, name: str) -> bool:
        """Empty, then remove."""
        if os.path.exists(self.path_of(name)):
            os.close(os.open(self.path_of(name), os.O_WRONLY | os.O_TRUNC))
        return super().unlink(name)


class Disturbed(Copying):
    """Works on a batch where an interrupt reaches it."""

    def batch_save(self, items: dict[str, BytesLike]) -> None:
        """Save, in this thread."""
        failures: dict[str, Exception] = {}
        self._save_group(items, failures, Event())
        raise_failures("batch_save", len(items), failures)


class InPlace(Directory):
    """Opens the file of a value and writes into it, as most programs do."""

    def save(self, key: str, value: BytesLike) -> None:
        """Write."""
        with self.errors("save", key), open(self.path_of(filename_for(key)), "wb") as file:
            file.write(value)


class Deaf(Directory):
    """Does not hear what the system answers: a save or a delete always says that it went well."""

    def save(self, key: str, value: BytesLike) -> None:
        """Save, perhaps."""
        with suppress(OSError):
            super().save(key, value)

    def _attempt(self, keys: Iterable[str], work: Callable[[str], object], _: dict[str, Exception]) -> None:
        super()._attempt(keys, work, {})

    def _remove(self, key: str) -> bool:
        with suppress(OSError):
            return super()._remove(key)
        return False

    def sync(self) -> None:
        """Sync, perhaps."""
        with suppress(OSError):
            super().sync()

    def publish(self, key: str, temp: str) -> None:
        """Publish, perhaps."""
        with suppress(OSError):
            super().publish(key, temp)


class Blind(Directory):
    """Takes what it cannot read for missing."""

    def load(self, key: str) -> bytes | None:
        """Load, or call it missing."""
        with suppress(OSError):
            return super().load(key)
        return None

    def open_value(self, key: str) -> tuple[BufferedReader, int] | None:
        """Open, or call it missing."""
        with suppress(OSError):
            return super().open_value(key)
        return None

    def list_keys(self, prefix: str = "") -> list[str]:
        """List, or call it empty."""
        with suppress(OSError):
            return super().list_keys(prefix)
        return []


class Forgetful(Directory):
    """Leaves its temp files behind."""

    def discard(self, temp: str) -> None:
        """Forget."""


class Hopeful(Directory):
    """Takes a sync that failed for done."""

    def sync(self) -> None:
        """Sync, perhaps."""
        with suppress(OSError):
            super().sync()


class Clumsy(Directory):
    """Lets a failed cleaning up hide what went wrong."""

    def discard(self, temp: str) -> None:
        """Remove, or raise another error."""
        if os.path.exists(temp):
            os.unlink(temp)


class Late(Directory):
    """Writes a value first and claims its name afterwards."""

    @contextmanager
    def _claimed(self, key: str) -> Iterator[str]:
        name, hard = place_for(key)
        yield name
        if hard:
            with self.claims.hold(key, name):
                pass

    def _replace_claimed(self, key: str, name: str, temp: str) -> None:
        self.replace(name, temp)
        with self.claims.hold(key, name):
            pass


class Touching(Directory):
    """Insists on touching a claim that is there."""

    @contextmanager
    def _claimed(self, key: str) -> Iterator[str]:
        with super()._claimed(key) as name:
            if needs_claim(key):
                os.utime(self.path_of(claim_name_for(name)))
            yield name

    def _replace_claimed(self, key: str, name: str, temp: str) -> None:
        with self._claimed(key):
            self.replace(name, temp)


class WithoutFileSync(Directory):
    """Renames a value whose bytes may not have reached the disk."""

    def write_temp(self, content: BytesLike) -> str:
        """Write without a sync."""
        fsync, self.fsync = self.fsync, False
        try:
            return super().write_temp(content)
        finally:
            self.fsync = fsync

    def publish(self, key: str, temp: str) -> None:
        """Rename without a sync."""
        with self._claimed(key) as name:
            self.replace(name, temp)
            sync_path(self.root)


class WithoutDirectorySync(Directory):
    """Says that a value is stored before the directory knows it."""

    def sync(self) -> None:
        """Do nothing."""


def backend_of(kind: type[Directory], base: str | os.PathLike[str], *, fsync: bool = True) -> FilePersistenceBackend:
    """Return a file backend that works through ``kind``: persistkit's own directory, or a broken one."""
    backend = FilePersistenceBackend(base, fsync=fsync)
    backend._directory = kind(base, create=False, fsync=fsync)
    return backend
