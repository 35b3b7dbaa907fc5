"""Copy the values of one engine to another, verified, and compare two."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from persistkit.background import engine_of
from persistkit.batches import grouped
from persistkit.engine import Engine
from persistkit.engines.read_only import ReadOnlyEngine, refusal
from persistkit.entry import Entry, known_size, known_time
from persistkit.errors import BatchError, MissingKeyError, PersistenceError, StorageError, TransferError
from persistkit.progress import BATCH_BYTES, BATCH_KEYS, Progress
from persistkit.selection import Selection

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.backend import PersistenceBackend
    from persistkit.store import Store

__all__ = ["CopyReport", "Overwrite", "Place", "compare", "copy"]

Overwrite: TypeAlias = Literal["error", "skip", "replace"]
Place: TypeAlias = "Engine | Store | PersistenceBackend"  # what background.engine_of takes

R = TypeVar("R")
V = TypeVar("V")

_STREAM_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class CopyReport:
    """What a copy did.

    Attributes:
        copied: how many values were stored in the target, and, when asked for, read back equal.
        skipped: how many were there already (``overwrite="skip"``).
        undated: how many of the copied ones have the time of the copy, because the target (Redis, object stores) keeps
            no other, or the source tells none. The others have the time when they were saved in the source.
        size_bytes: of the copied values.
        failures: key -> why it was not copied; everything else was.
        unknown: filenames of values whose key cannot be known; they cannot be copied under one.
        ambiguous: keys that are a guess: another key has the same filename in the source (``Store.alternatives``). The
            values were copied or skipped under the key that is named here.
    """

    copied: int = 0
    skipped: int = 0
    undated: int = 0
    size_bytes: int = 0
    failures: dict[str, Exception] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything is in the target now, each value certainly under its own key."""
        return not self.failures and not self.unknown and not self.ambiguous

    def __str__(self) -> str:
        text = f"{self.copied:,} copied ({self.size_bytes:,} bytes), {self.skipped:,} skipped"
        if self.undated:
            text += f", {self.undated:,} with the time of the copy"
        if self.failures:
            key, error = next(iter(self.failures.items()))
            text += f", {len(self.failures):,} failed, the first {key!r}: {error}"
        if self.unknown:
            text += f", {len(self.unknown):,} of unknown key left, the first {self.unknown[0]!r}"
        if self.ambiguous:
            text += f", {len(self.ambiguous):,} under a guessed key, the first {self.ambiguous[0]!r}"
        return text


def copy(
    source: Place,
    target: Place,
    *,
    keys: Iterable[str] | None = None,
    prefix: str = "",
    glob: str | None = None,
    overwrite: Overwrite = "error",
    verify: bool = True,
    progress: bool = True,
) -> CopyReport:
    """Copy values byte for byte, in bounded memory, with the times when they were saved where the target keeps times.

    Every key is attempted, and what fails stops nothing else. A copy that was killed can be run again with
    ``overwrite="skip"``, which goes on: a value that is in the target is whole, and has its time.

    Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.

    Args:
        source: where the values are read; it must be able to list.
        target: where they are stored.
        keys: whole keys.
        prefix: literal text the keys start with.
        glob: a pattern for the whole key.
        overwrite: a key that is in the target already is a failure (``"error"``), left as it is (``"skip"``), or
            replaced (``"replace"``).
        verify: read each value back from the target and compare it.
        progress: show a bar when it takes longer than a second.

    Raises:
        TypeError: one of them is no engine, store or backend; the message never shows it.
        ValueError: source and target are one place, or ``overwrite`` is something else.
        ReadOnlyError: the target was opened read only.
        TransferError: some keys failed, or one of ``keys`` is not there; ``report`` says which, and all else is done.
        ListingNotSupportedError: the source cannot list.
        StorageError: the source's listing broke off.
    """
    source, target = engine_of(source, "copy"), engine_of(target, "copy")
    if source is target:
        raise ValueError("copy: source and target are one place; open another place to copy to")
    if overwrite not in ("error", "skip", "replace"):
        raise ValueError(f"copy: overwrite is 'error', 'skip' or 'replace', not {overwrite!r}")
    if isinstance(target, ReadOnlyEngine):
        raise refusal("copy", repr(target.engine))
    chosen = Selection(keys, prefix, glob)
    missing = {} if keys is None else dict.fromkeys(chosen.named_or_listed(source))
    work = _Copy(source, target, overwrite=overwrite, verify=verify)
    with Progress(None, "copying", shown=progress) as bar:
        for batch in _batches(chosen.entries(source)):
            work.carry(batch)
            bar.done(len(batch))
            for entry in batch:
                missing.pop(entry.key or "", None)
    report = work.report
    report.failures |= {key: MissingKeyError(key) for key in missing}
    if report.failures:
        raise TransferError(f"copy to {target!r}: {report}", report) from next(iter(report.failures.values()))
    return report


def compare(
    left: Place, right: Place, *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
) -> pd.DataFrame:
    """Return a row for each key whose values differ, sorted by key: columns ``key`` and ``status``.

    Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.

    ``status`` is ``only left``, ``only right`` or ``different``; sizes are compared first, then contents. Two equal
    places give no row. A value of unknown key is compared by its filename and size, and its ``key`` is missing.

    Raises:
        TypeError: one of them is no engine, store or backend; the message never shows it.
        ListingNotSupportedError: one of them cannot list.
        StorageError: one of them refused, is gone or did not answer.
    """
    import pandas as pd

    from persistkit.frames import text_column

    left, right = engine_of(left, "compare"), engine_of(right, "compare")
    chosen = Selection(keys, prefix, glob)
    ours, theirs = ({_identity(entry): entry.size for entry in chosen.entries(side)} for side in (left, right))
    status = dict.fromkeys(ours.keys() - theirs.keys(), "only left")
    status |= dict.fromkeys(theirs.keys() - ours.keys(), "only right")
    alike: list[Entry] = []
    for unknown, name in ours.keys() & theirs.keys():
        size = ours[unknown, name]
        if size != theirs[unknown, name]:
            status[unknown, name] = "different"
        elif not unknown:
            alike.append(Entry(name, size, None))
    for batch in _batches(alike):
        for key in _different(left, right, batch):
            status[False, key] = "different"
    rows = sorted(status.items())
    names = [None if unknown else name for (unknown, name), _ in rows]
    return pd.DataFrame({"key": text_column(names), "status": text_column([what for _, what in rows])})


class _Copy:
    """One copy under way."""

    def __init__(self, source: Engine, target: Engine, *, overwrite: Overwrite, verify: bool) -> None:
        self.report = CopyReport()
        self._source = source
        self._target = target
        self._overwrite = overwrite
        self._verify = verify

    def carry(self, batch: list[Entry]) -> None:
        """Copy one batch of entries."""
        self.report.unknown += [entry.filename for entry in batch if entry.key is None]
        wanted = {entry.key: entry for entry in batch if entry.key is not None}
        self.report.ambiguous += [key for key, entry in wanted.items() if entry.ambiguous]
        self._leave_what_is_there(wanted)
        times = {key: time for key, entry in wanted.items() if (time := known_time(entry.modified)) is not None}
        large = [key for key, entry in wanted.items() if _is_large(entry)]
        self._carry_together(dict.fromkeys(key for key in wanted if key not in large), times)
        for key in large:
            try:
                self._stream(key, times.get(key))
            except Exception as error:
                self.report.failures[key] = error

    def _leave_what_is_there(self, wanted: dict[str, Entry]) -> None:
        if self._overwrite == "replace":
            return
        for key in self._attempt(self._target.existing, wanted) or ():
            del wanted[key]
            if self._overwrite == "skip":
                self.report.skipped += 1
            else:
                self.report.failures[key] = PersistenceError(
                    f"copy {key!r}: {self._target!r} has it already; write overwrite='skip' or overwrite='replace'"
                )

    def _carry_together(self, keys: dict[str, None], times: dict[str, datetime]) -> None:
        values = self._load(self._source, keys)
        again = self._target.batch_is_transaction  # elsewhere all that does not fail is stored
        self._attempt(lambda left: self._target.batch_save(left, times=times), values, again=again)
        if self._verify:
            stored = self._load(self._target, dict.fromkeys(values))
            for key in [key for key in values if stored.get(key) != values[key]]:
                del values[key]
                self.report.failures.setdefault(key, self._unequal(key))
        self._count(len(values), sum(map(len, values.values())), sum(key in times for key in values))

    def _load(self, engine: Engine, keys: dict[str, None]) -> dict[str, bytes]:
        loaded = zip(keys, self._attempt(engine.batch_load, keys) or (), strict=True)
        found = {key: value for key, value in loaded if value is not None}
        for key in keys.keys() - found.keys():
            self.report.failures[key] = StorageError(f"copy {key!r}: it was deleted in {engine!r} meanwhile")
        return found

    def _attempt(self, work: Callable[[dict[str, V]], R], pending: dict[str, V], *, again: bool = True) -> R | None:
        """Return what comes of the keys that are ``pending``; those that fail are reported and taken out of them."""
        while pending:
            try:
                return work(pending)
            except Exception as error:
                named = error.failures if isinstance(error, BatchError) else {}
                # One key may make the whole batch fail: the others are tried ``again``.
                failures = {key: why for key, why in named.items() if key in pending} or dict.fromkeys(pending, error)
            self.report.failures |= failures
            for key in failures:
                del pending[key]
            if not again:
                break
        return None

    def _stream(self, key: str, time: datetime | None) -> None:
        digest, size = hashlib.sha256(), 0
        reader = self._source.open_reader(key)
        if reader is None:
            raise StorageError(f"copy {key!r}: it was deleted in {self._source!r} meanwhile")
        with reader, self._target.open_writer(key, time=time) as writer:
            while chunk := reader.read(_STREAM_BYTES):
                digest.update(chunk)
                size += len(chunk)
                writer.write(chunk)
        if self._verify and _digest(self._target, key) != digest.digest():
            raise self._unequal(key)
        self._count(1, size, int(time is not None))

    def _count(self, copied: int, size_bytes: int, dated: int) -> None:
        self.report.copied += copied
        self.report.size_bytes += size_bytes
        self.report.undated += copied - dated if self._target.keeps_times else copied

    def _unequal(self, key: str) -> StorageError:
        return StorageError(f"copy {key!r}: {self._target!r} gives back other bytes than were stored; copy it again")


def _different(left: Engine, right: Engine, batch: list[Entry]) -> Iterator[str]:
    small = [entry.key or "" for entry in batch if not _is_large(entry)]
    for key, one, other in zip(small, left.batch_load(small), right.batch_load(small), strict=True):
        if one != other:
            yield key
    for key in [entry.key or "" for entry in batch if _is_large(entry)]:
        if _digest(left, key) != _digest(right, key):
            yield key


def _digest(engine: Engine, key: str) -> bytes:
    digest = hashlib.sha256()
    with engine.open_reader(key) or BytesIO() as reader:  # nothing, where it was deleted meanwhile
        while chunk := reader.read(_STREAM_BYTES):  # hashlib.file_digest asks a bucket once for each MiB
            digest.update(chunk)
    return digest.digest()


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Group entries so that the values of a group fit into memory; one large value is streamed and counts little."""
    return grouped(entries, lambda entry: 0 if _is_large(entry) else known_size(entry.size), BATCH_KEYS, BATCH_BYTES)


def _is_large(entry: Entry) -> bool:
    return known_size(entry.size) > _STREAM_BYTES


def _identity(entry: Entry) -> tuple[bool, str]:
    return (True, entry.filename) if entry.key is None else (False, entry.key)
