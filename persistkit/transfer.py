"""Copy the values of one backend to another, verified, and compare two."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from persistkit.backend import Entry, PersistenceBackend, check_backend
from persistkit.errors import BatchError, PersistenceError, StorageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CopyReport", "Overwrite", "compare", "copy"]


def __dir__() -> list[str]:
    return __all__


Overwrite: TypeAlias = Literal["error", "skip", "replace"]

_BATCH_KEYS: Final = 500
_BATCH_BYTES: Final = 32 * 1024 * 1024
_STREAM_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class CopyReport:
    """What a copy did.

    Attributes:
        copied: how many values were stored in the target, and, when asked for, read back equal.
        skipped: how many were there already (``overwrite="skip"``).
        size_bytes: of the copied values.
        seconds: how long it took.
        failures: key -> why it was not copied; everything else was.
        unknown: filenames of values whose key cannot be known; they cannot be copied under one.

    Example:
        >>> report = CopyReport(copied=2, size_bytes=2048)
        >>> print(report, report.complete)
        2 copied (2,048 bytes), 0 skipped True
    """

    copied: int = 0
    skipped: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    failures: dict[str, Exception] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything is in the target now."""
        return not self.failures and not self.unknown

    def __str__(self) -> str:
        text = f"{self.copied:,} copied ({self.size_bytes:,} bytes), {self.skipped:,} skipped"
        if self.failures:
            key, error = next(iter(self.failures.items()))
            text += f", {len(self.failures):,} failed, the first {key!r}: {error}"
        if self.unknown:
            text += f", {len(self.unknown):,} of unknown key left, the first {self.unknown[0]!r}"
        return text


async def copy(
    source: PersistenceBackend,
    target: PersistenceBackend,
    *,
    prefix: str = "",
    overwrite: Overwrite = "error",
    verify: bool = True,
    progress: bool = True,
) -> CopyReport:
    """Copy every value whose key starts with ``prefix``, byte for byte, in bounded memory.

    Every key is attempted; what fails is in the report and stops nothing else. After an interruption
    ``overwrite="skip"`` goes on: a value that is in the target is whole.

    Args:
        source: where the values are read; it must be able to list.
        target: where they are stored.
        prefix: literal text the keys start with.
        overwrite: a key that is in the target already is a failure (``"error"``), left as it is (``"skip"``), or
            replaced (``"replace"``).
        verify: read each value back from the target and compare it.
        progress: show a bar while it runs.

    Raises:
        TypeError: one of them is no backend.
        ValueError: source and target are one backend, or ``overwrite`` is something else.
        ListingNotSupportedError: the source cannot list.
        StorageError: the source's listing broke off.

    Example:
        >>> import asyncio
        >>> from persistkit import MemoryPersistenceBackend
        >>> source, target = MemoryPersistenceBackend(), MemoryPersistenceBackend()
        >>> asyncio.run(source.save("run:1", b"done"))
        >>> print(asyncio.run(copy(source, target, progress=False)))
        1 copied (4 bytes), 0 skipped
    """
    with progress_bar(shown=progress) as bar:
        return await copy_with_bar(source, target, prefix, overwrite, verify, bar)


async def copy_with_bar(
    source: PersistenceBackend, target: PersistenceBackend, prefix: str, overwrite: Overwrite, verify: bool, bar: Any
) -> CopyReport:
    """Copy as ``copy`` does, moving a bar that may belong to another thread. Any: tqdm has several bars."""
    check_backend(source, "copy")
    check_backend(target, "copy")
    if source is target:
        raise ValueError("copy: source and target are one backend; open another place to copy to")
    if overwrite not in ("error", "skip", "replace"):
        raise ValueError(f"copy: overwrite is 'error', 'skip' or 'replace', not {overwrite!r}")
    began = perf_counter()
    work = _Copy(source, target, overwrite=overwrite, verify=verify)
    async for batch in _batches(source.entries(prefix)):
        await work.carry(batch)
        bar.update(len(batch))
    work.report.seconds = perf_counter() - began
    return work.report


async def compare(left: PersistenceBackend, right: PersistenceBackend, *, prefix: str = "") -> pd.DataFrame:
    """Return a row for each difference under ``prefix``, sorted by key: columns ``key`` and ``status``.

    ``status`` is ``only left``, ``only right`` or ``different``; sizes are compared first, then contents. Two equal
    backends give no row. A value of unknown key is compared by its filename and size, and its ``key`` is missing.

    Raises:
        TypeError: one of them is no backend.
        ListingNotSupportedError: one of them cannot list.
        StorageError: one of them refused, is gone or did not answer.

    Example:
        >>> import asyncio
        >>> from persistkit import MemoryPersistenceBackend
        >>> left, right = MemoryPersistenceBackend(), MemoryPersistenceBackend()
        >>> asyncio.run(left.save("run:1", b"done"))
        >>> asyncio.run(compare(left, right))
             key     status
        0  run:1  only left
    """
    import pandas as pd

    check_backend(left, "compare")
    check_backend(right, "compare")
    sizes = [{_identity(entry): entry.size async for entry in side.entries(prefix)} for side in (left, right)]
    status: dict[tuple[bool, str], str] = {}
    alike: list[Entry] = []
    for identity in sizes[0].keys() | sizes[1].keys():
        if identity not in sizes[1]:
            status[identity] = "only left"
        elif identity not in sizes[0]:
            status[identity] = "only right"
        elif sizes[0][identity] != sizes[1][identity]:
            status[identity] = "different"
        elif not identity[0]:
            alike.append(Entry(identity[1], sizes[0][identity], None, ""))
    async for batch in _batches(_each(alike)):
        for key in await _different(left, right, batch):
            status[False, key] = "different"
    rows = sorted(status.items())
    keys = [None if unknown else text for (unknown, text), _ in rows]
    return pd.DataFrame({"key": pd.array(keys, "str"), "status": pd.array([what for _, what in rows], "str")})


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Any]:
    """Show a bar while the block runs; it leaves nothing behind. Any: tqdm has several bars."""
    from tqdm.auto import tqdm

    with tqdm(unit=" keys", leave=False, disable=not shown) as bar:
        yield bar


class _Copy:
    """One copy under way."""

    def __init__(
        self, source: PersistenceBackend, target: PersistenceBackend, *, overwrite: Overwrite, verify: bool
    ) -> None:
        self.report = CopyReport()
        self._source = source
        self._target = target
        self._overwrite = overwrite
        self._verify = verify

    async def carry(self, batch: list[Entry]) -> None:
        """Copy one batch of entries."""
        self.report.unknown += [entry.filename for entry in batch if entry.key is None]
        keys = await self._wanted([entry.key for entry in batch if entry.key is not None])
        large = [entry.key for entry in batch if entry.key in keys and entry.size > _STREAM_BYTES]
        small = [key for key in keys if key not in large]
        await self._carry_together(small)
        for key in large:
            try:
                await self._stream(key)
            except PersistenceError as error:
                self.report.failures[key] = error

    async def _wanted(self, keys: list[str]) -> dict[str, None]:
        """Return the keys to copy; the others are there already."""
        wanted = dict.fromkeys(keys)
        if self._overwrite == "replace":
            return wanted
        there: list[str] = []

        async def look(key: str) -> None:
            if await self._target.exists(key):
                there.append(key)

        try:
            await self._target._attempt("copy", keys, look)
        except BatchError as error:
            self._failed(error.failures, wanted)
        for key in there:
            del wanted[key]
            if self._overwrite == "skip":
                self.report.skipped += 1
            else:
                self.report.failures[key] = PersistenceError(
                    f"copy {key!r}: {self._target!r} has it already; write overwrite='skip' or overwrite='replace'"
                )
        return wanted

    async def _carry_together(self, keys: list[str]) -> None:
        pending = dict.fromkeys(keys)
        values = await self._load(self._source, pending)
        try:
            await self._target.batch_save(values)
        except BatchError as error:
            self._failed(error.failures, values)
        except PersistenceError as error:
            self._failed(dict.fromkeys(list(values), error), values)
        if self._verify:
            pending = dict.fromkeys(values)
            stored = await self._load(self._target, pending)
            for key in [key for key in values if stored.get(key) != values[key]]:
                del values[key]
                self.report.failures.setdefault(key, self._unequal(key))
        self.report.copied += len(values)
        self.report.size_bytes += sum(map(len, values.values()))

    async def _load(self, backend: PersistenceBackend, pending: dict[str, None]) -> dict[str, bytes]:
        """Return the values of the keys; those that failed, or are gone, are in the report."""
        try:
            loaded = await backend.batch_load(pending)
        except BatchError as error:
            self._failed(error.failures, pending)
            # One key may make the whole batch fail: what is left is asked for once more.
            return await self._load(backend, pending) if pending else {}
        for key in [key for key, value in zip(pending, loaded, strict=True) if value is None]:
            self.report.failures[key] = StorageError(f"copy {key!r}: it was deleted in {backend!r} meanwhile")
        return {key: value for key, value in zip(pending, loaded, strict=True) if value is not None}

    async def _stream(self, key: str) -> None:
        digest, size = hashlib.sha256(), 0
        async with self._source.open_reader(key) as reader:
            if reader is None:
                raise StorageError(f"copy {key!r}: it was deleted in {self._source!r} meanwhile")
            async with self._target.open_writer(key) as writer:
                while chunk := await reader.read(_STREAM_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    await writer.write(chunk)
        if self._verify and await _digest(self._target, key) != digest.digest():
            raise self._unequal(key)
        self.report.copied += 1
        self.report.size_bytes += size

    def _failed(self, failures: dict[str, Exception], pending: dict[str, Any]) -> None:
        self.report.failures |= failures
        for key in failures:
            pending.pop(key, None)

    def _unequal(self, key: str) -> StorageError:
        return StorageError(f"copy {key!r}: {self._target!r} gives back other bytes than were stored; copy it again")


async def _different(left: PersistenceBackend, right: PersistenceBackend, batch: list[Entry]) -> list[str]:
    small = [entry.key for entry in batch if entry.key is not None and entry.size <= _STREAM_BYTES]
    pairs = zip(small, await left.batch_load(small), await right.batch_load(small), strict=True)
    different = [key for key, one, other in pairs if one != other]
    for entry in batch:
        if entry.key is not None and entry.size > _STREAM_BYTES:
            one, other = await _digest(left, entry.key), await _digest(right, entry.key)
            if one != other:
                different.append(entry.key)
    return different


async def _digest(backend: PersistenceBackend, key: str) -> bytes | None:
    digest = hashlib.sha256()
    async with backend.open_reader(key) as reader:
        if reader is None:
            return None
        while chunk := await reader.read(_STREAM_BYTES):
            digest.update(chunk)
    return digest.digest()


async def _batches(entries: AsyncIterator[Entry]) -> AsyncIterator[list[Entry]]:
    """Group entries so that the values of a group fit into memory; one large value is streamed and counts little."""
    batch: list[Entry] = []
    size = 0
    async for entry in entries:
        batch.append(entry)
        size += 0 if entry.size > _STREAM_BYTES else entry.size
        if len(batch) == _BATCH_KEYS or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _each(entries: list[Entry]) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


def _identity(entry: Entry) -> tuple[bool, str]:
    return (True, entry.filename) if entry.key is None else (False, entry.key)
