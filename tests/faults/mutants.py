"""Mutants: broken writers, each the file engine over one system call that does not do what it should.

A mutant is a context manager that changes calls of ``os`` in this process while its block runs; two of them are engines
of their own. The tests must catch each of them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import pytest

from persistkit.arguments import BytesLike
from persistkit.engines.files import FileEngine
from persistkit.entry import Entry
from persistkit.errors import BatchError, StorageError

__all__ = ["KEPT", "MUTANTS", "engine_of"]

KEPT: Final = "persistkit"

Call = Callable[..., Any]  # Any: the calls of os have signatures of many kinds


def _patched(**changed: Call) -> AbstractContextManager[None]:
    """Put ``changed`` in the place of calls of ``os``; each takes the true call first."""

    @contextmanager
    def patched() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, change in changed.items():
                patch.setattr(os, name, _bound(change, getattr(os, name)))
            yield

    return patched()


def _bound(change: Call, call: Call) -> Call:
    return lambda *arguments, **options: change(call, *arguments, **options)


def _is_temp(path: object) -> bool:
    return str(path).endswith(".tmp")


def _is_directory(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").is_dir()


def kept() -> AbstractContextManager[None]:
    """Persistkit as it is."""
    return _patched()


def copies() -> AbstractContextManager[None]:
    """Copy a new value into its place instead of renaming or linking it, and empty a file before removing it."""

    def copy(source: str, target: str, flag: int) -> None:
        content = os.open(target, os.O_WRONLY | os.O_CREAT | flag, 0o666)
        try:
            with open(source, "rb", buffering=0) as temp:
                while chunk := temp.read(8 * 1024):
                    os.write(content, chunk)
        finally:
            os.close(content)

    def replace(_: Call, source: str, target: str) -> None:
        copy(source, target, os.O_TRUNC)
        os.unlink(source)

    def link(_: Call, source: str, target: str, **_options: Any) -> None:
        copy(source, target, os.O_EXCL)

    def unlink(call: Call, path: str) -> None:
        if not _is_temp(path) and os.path.exists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        call(path)

    return _patched(replace=replace, link=link, unlink=unlink)


def ignores_fsync_failure() -> AbstractContextManager[None]:
    """Take a sync that failed for done."""

    def fsync(call: Call, descriptor: int) -> None:
        try:
            call(descriptor)
        except OSError:
            return

    return _patched(fsync=fsync)


def treats_error_as_missing() -> AbstractContextManager[None]:
    """Take what cannot be opened or read for missing, and a directory that cannot be listed for empty."""

    def missing(call: Call, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except OSError as error:
            raise FileNotFoundError(2, "missing") from error

    def read(call: Call, *arguments: Any) -> bytes:
        try:
            return bytes(call(*arguments))
        except OSError:
            return b""

    return _patched(open=missing, lstat=missing, stat=missing, fstat=missing, scandir=missing, read=read)


def leaves_temp_files() -> AbstractContextManager[None]:
    """Leave temp files behind."""
    return _patched(unlink=lambda call, path: None if _is_temp(path) else call(path))


def fails_at_cleanup() -> AbstractContextManager[None]:
    """Let a cleaning up hide what went wrong."""

    def unlink(call: Call, path: str) -> None:
        if _is_temp(path):
            raise RuntimeError(f"cannot remove {path}")
        call(path)

    return _patched(unlink=unlink)


def writes_owner_file_last() -> AbstractContextManager[None]:
    """Write a value first, and its owner file afterwards."""
    linked: list[str] = []

    def link(call: Call, source: str, target: str, **_: Any) -> None:
        call(source, target)
        if target.endswith(".key"):
            linked.append(target)

    def replace(call: Call, source: str, target: str) -> None:
        away = {owner: f"{Path(owner).parent}/.persistkit-{os.urandom(16).hex()}.tmp" for owner in linked}
        linked.clear()
        for owner, temp in away.items():
            os.rename(owner, temp)
        call(source, target)
        for owner, temp in away.items():
            os.rename(temp, owner)

    return _patched(link=link, replace=replace)


def touches_owner_files() -> AbstractContextManager[None]:
    """Insist on setting the time of an owner file that is there."""

    def opened(call: Call, path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = int(call(path, *arguments, **options))
        if str(path).endswith(".key"):
            try:
                os.utime(path)
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor

    return _patched(open=opened)


def without_file_sync() -> AbstractContextManager[None]:
    """Rename a value whose bytes may not have reached the disk."""
    return _patched(fsync=lambda call, descriptor: call(descriptor) if _is_directory(descriptor) else None)


def without_directory_sync() -> AbstractContextManager[None]:
    """Acknowledge a value before the directory is durable."""
    return _patched(fsync=lambda call, descriptor: None if _is_directory(descriptor) else call(descriptor))


class IgnoresErrors(FileEngine):
    """Says that every change went well."""

    def _save(self, key: str, value: BytesLike) -> None:
        with suppress(StorageError):
            super()._save(key, value)

    def _delete(self, key: str, value: bytes | None = None) -> None:
        with suppress(StorageError):
            super()._delete(key, value)

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        with suppress(BatchError):
            super()._batch_save(items)

    def _batch_delete(self, keys: list[str], seen: Mapping[str, Entry] | None = None) -> None:
        with suppress(BatchError):
            super()._batch_delete(keys, seen)

    def _add(self, key: str, value: BytesLike, time: datetime | None = None) -> bool:
        with suppress(StorageError):
            return super()._add(key, value, time)
        return True

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        with suppress(StorageError):
            return super()._replace(key, value, expected)
        return True

    @contextmanager
    def _open_writer(self, key: str) -> Iterator[IO[bytes]]:
        spool = io.BytesIO()
        yield spool
        self._save(key, spool.getvalue())


class WritesInPlace(FileEngine):
    """Opens the file of a value and writes into it, as most programs do."""

    def _save(self, key: str, value: BytesLike) -> None:
        try:
            with open(self.path_for(key), "wb", buffering=0) as file:
                file.write(value)
        except OSError as error:
            raise StorageError(f"save {key!r}: {error}", errno=error.errno) from error


def engine_of(mutant: str, base: str | os.PathLike[str], *, fsync: bool = True) -> FileEngine:
    """Return the engine of a mutant: the file engine itself, or a broken one."""
    engines = {"IgnoresErrors": IgnoresErrors, "WritesInPlace": WritesInPlace}
    return engines.get(mutant, FileEngine)(base, fsync=fsync)


MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[None]]]] = {
    KEPT: kept,
    "Copies": copies,
    "IgnoresErrors": kept,
    "WritesInPlace": kept,
    "IgnoresFsyncFailure": ignores_fsync_failure,
    "TreatsErrorAsMissing": treats_error_as_missing,
    "LeavesTempFiles": leaves_temp_files,
    "FailsAtCleanup": fails_at_cleanup,
    "WritesOwnerFileLast": writes_owner_file_last,
    "TouchesOwnerFiles": touches_owner_files,
    "WithoutFileSync": without_file_sync,
    "WithoutDirectorySync": without_directory_sync,
}
