"""Staging: the values of a whole update, encoded and checked before the first one is stored."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import chain, starmap
from tempfile import TemporaryFile
from typing import Any, Final

from persistkit.arguments import BytesLike, as_pair, check_key, check_size
from persistkit.engine import Engine
from persistkit.errors import StorageError
from persistkit.progress import BATCH_BYTES, Progress

__all__ = ["store_all"]

_MEMORY_BYTES: Final = 256 * 1024 * 1024


def store_all(
    engine: Engine,
    given: Any,
    more: Mapping[str, Any],
    encoded: Callable[[str, Any], BytesLike],
    *,
    prefix: str,
    progress: bool,
) -> None:
    """Store what ``dict.update`` takes: whole mappings and lists checked first, an iterator batch by batch.

    ``prefix`` is what the engine puts before every key.

    Any: values of every kind.
    """
    total = len(given) + len(more) if isinstance(given, Sized) else None

    def checked(key: str, value: Any) -> tuple[str, BytesLike]:
        check_key(prefix + key if isinstance(key, str) else key)
        data = encoded(key, value)
        check_size(key, len(data), engine.max_value_bytes)
        return key, data

    pairs = starmap(checked, chain(_pairs(given), more.items()))
    with Progress(total, "storing", shown=progress) as bar:
        if isinstance(given, Iterator):
            batches = _batches(pairs, bar)
        elif engine.batch_is_transaction:
            batches = iter([_staged(pairs)])
        else:
            batches = _batches(_staged(pairs).items(), bar)
        for batch in batches:
            engine.batch_save(batch)
            bar.done(len(batch))


def _batches(pairs: Iterable[tuple[str, BytesLike]], bar: Progress) -> Iterator[dict[str, BytesLike]]:
    """Collect pairs into batches of the size that ``bar`` wants by then."""
    batch: dict[str, BytesLike] = {}
    size_bytes = 0
    for key, data in pairs:
        batch[key] = data
        size_bytes += len(data)
        if len(batch) >= bar.batch or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = {}, 0
    yield batch


def _staged(pairs: Iterator[tuple[str, BytesLike]]) -> dict[str, BytesLike]:
    """Return all values, those beyond 256 MiB as parts of an unnamed temporary file that is mapped into memory."""
    values: dict[str, BytesLike] = {}
    size_bytes = 0
    for key, data in pairs:
        values[key] = data
        size_bytes += len(data)
        if size_bytes > _MEMORY_BYTES:
            return values | _spooled(pairs)
    return values


def _spooled(pairs: Iterable[tuple[str, BytesLike]]) -> dict[str, BytesLike]:
    parts: dict[str, tuple[int, int]] = {}
    try:
        with TemporaryFile() as file:
            end = 0
            for key, data in pairs:
                file.write(data)
                parts[key] = end, end + len(data)
                end += len(data)
            file.flush()
            mapped = memoryview(mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ) if end else b"")
    except StorageError:
        raise
    except OSError as error:
        reason = f"update: the values could not be kept in a temporary file: {error.strerror or error}"
        raise StorageError(f"{reason}; free space in the folder TMPDIR names", errno=error.errno) from error
    return {key: mapped[start:stop] for key, (start, stop) in parts.items()}


def _pairs(given: Any) -> Iterable[tuple[str, Any]]:  # Any: whatever dict.update takes
    if isinstance(given, Mapping):
        return given.items()
    return ((key, given[key]) for key in given.keys()) if hasattr(given, "keys") else map(as_pair, given)  # noqa: SIM118
