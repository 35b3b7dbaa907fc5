"""MemoryEngine: values in the memory of this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Never

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.entry import Entry, sorted_out
from persistkit.locking import local_attempts

__all__ = ["MemoryEngine"]


class MemoryEngine(Engine):
    """Values in memory: for tests, and for results that need not outlive the process.

    Nothing is left after exit; a forked child's copy goes its own way, and pickling is refused. ``add``,
    ``replace`` and ``delete_unchanged`` are atomic among the threads of the process.
    """

    blocks = False
    keeps_times = True

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, datetime]] = {}
        self._changes = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return "MemoryEngine()"

    def __reduce__(self) -> Never:
        raise TypeError(
            f"pickle {self!r}: its values are in the memory of this process alone; "
            "for workers, open a directory: persistkit.open('results', create=True)"
        )

    def _save(self, key: str, value: BytesLike) -> None:
        with self._lock:
            self._put(key, value)

    def _batch_save_at(self, items: dict[str, BytesLike], times: Mapping[str, datetime]) -> None:
        with self._lock:
            for key, value in items.items():
                self._put(key, value, times.get(key))

    def _put(self, key: str, value: BytesLike, time: datetime | None = None) -> None:
        self._values[key] = bytes(value), time or datetime.now(UTC)
        self._changes += 1

    def _load(self, key: str) -> bytes | None:
        stored = self._values.get(key)
        return None if stored is None else stored[0]

    def _delete(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)
            self._changes += 1

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for key, (value, modified) in self._values.copy().items():
            if key.startswith(prefix):
                yield Entry(key, len(value), modified)

    def _key_count(self) -> int:
        return len(self._values)

    def _add(self, key: str, value: BytesLike) -> bool:
        with self._lock:
            if key in self._values:
                return False
            self._put(key, value)
            return True

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        with self._lock:
            if self._load(key) != expected:
                return False
            self._put(key, value)
            return True

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        return local_attempts(self, key)

    def _rename(self, key: str, new_key: str) -> bool:
        with self._lock:
            if key not in self._values or new_key in self._values:
                return False
            self._values[new_key] = self._values.pop(key)
            self._changes += 1
            return True

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        with self._lock:
            stored = {key: self._values[key] for key in seen if key in self._values}
            present = (Entry(key, len(value), modified) for key, (value, modified) in stored.items())
            same, kept = sorted_out(seen, present)
            for key in same:
                del self._values[key]
            self._changes += 1
            return kept

    def _change_token(self) -> object:
        return self._changes
