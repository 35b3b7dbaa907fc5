"""EngineView: the reads of another engine; PrefixEngine: its keys that start with a prefix, without it."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import IO, Any

from persistkit.arguments import BytesLike, check_key, check_prefix
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import BatchError

__all__ = ["EngineView", "PrefixEngine"]


class EngineView(Engine):
    """Reads the engine it holds, under the keys that start with ``prefix``; what writes do, a subclass says.

    Attributes:
        engine: where the bytes are.
        prefix: what every key there begins with.
    """

    def __init__(self, engine: Engine, prefix: str = "") -> None:
        self.engine = engine
        self.prefix = prefix
        self.max_value_bytes = engine.max_value_bytes
        self.concurrency = engine.concurrency
        self.blocks = engine.blocks  # type: ignore[misc]  # constant for each class, except for what holds another

    def _whole(self, key: str) -> str:
        if not self.prefix:
            return key
        whole = self.prefix + key
        check_key(whole)  # together they may be too long
        return whole

    def _all(self, keys: Iterable[str]) -> list[str]:
        return [self._whole(key) for key in keys]

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BatchError as error:
            failures: dict[str, Any] = {key.removeprefix(self.prefix): why for key, why in error.failures.items()}
            raise BatchError(str(error), failures) from error.__cause__  # or it would be told twice

    def _load(self, key: str) -> bytes | None:
        return self.engine._load(self._whole(key))

    def _load_buffer(self, key: str) -> BytesLike | None:
        return self.engine._load_buffer(self._whole(key))

    def _load_cached(self, key: str) -> bytes | None:
        return self.engine._load_cached(self._whole(key))

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        with self._named():
            return self.engine._batch_load(self._all(keys))

    def _entries(self, prefix: str) -> Iterator[Entry]:
        listing = self.engine._entries(self.prefix + prefix)
        return map(self._without_prefix, listing) if self.prefix else listing

    def _without_prefix(self, entry: Entry) -> Entry:
        if entry.key is None:
            return entry
        return entry._replace(key=entry.key.removeprefix(self.prefix), stored_as=entry.filename)

    def _list_keys(self, prefix: str) -> list[str]:
        return [key.removeprefix(self.prefix) for key in self.engine._list_keys(self.prefix + prefix)]

    def _exists(self, key: str) -> bool:
        return self.engine._exists(self._whole(key))

    def _existing(self, keys: list[str]) -> set[str]:
        with self._named():
            return {key.removeprefix(self.prefix) for key in self.engine._existing(self._all(keys))}

    def _key_count(self) -> int:
        return sum(1 for _ in self._entries("")) if self.prefix else self.engine._key_count()

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        return self.engine._read_range(self._whole(key), start, size)

    def _open_reader(self, key: str) -> io.BufferedIOBase | None:
        return self.engine._open_reader(self._whole(key))

    def _change_token(self) -> object | None:
        return self.engine._change_token()

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value under a filename, where the engine has filenames."""
        value: bytes | None = self.engine.load_filename(filename)  # type: ignore[attr-defined]  # engines that have one
        return value

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


class PrefixEngine(EngineView):
    """Every key is that of the engine it holds, without ``prefix``; what does not start with it is not there.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> engine = MemoryEngine()
        >>> engine.save("run/1", b"value")
        >>> PrefixEngine(engine, "run/").list_keys()
        ['1']
    """

    def __init__(self, engine: Engine, prefix: str) -> None:
        check_prefix(prefix)
        check_key(prefix)
        if isinstance(engine, PrefixEngine):  # of a view of a view one is enough
            prefix = engine.prefix + prefix
            engine = engine.engine
        super().__init__(engine, prefix)
        self.batch_is_transaction = engine.batch_is_transaction  # type: ignore[misc]  # as blocks
        self.keeps_times = engine.keeps_times  # type: ignore[misc]  # as blocks

    def __repr__(self) -> str:
        return f"PrefixEngine({self.engine!r}, {self.prefix!r})"

    def _save(self, key: str, value: BytesLike) -> None:
        self.engine._save(self._whole(key), value)

    def _delete(self, key: str) -> None:
        self.engine._delete(self._whole(key))

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        with self._named():
            self.engine._batch_save({self._whole(key): value for key, value in items.items()})

    def _batch_save_at(self, items: dict[str, BytesLike], times: Mapping[str, datetime]) -> None:
        with self._named():
            whole = {self._whole(key): time for key, time in times.items()}
            self.engine._batch_save_at({self._whole(key): value for key, value in items.items()}, whole)

    def _batch_delete(self, keys: list[str]) -> None:
        with self._named():
            self.engine._batch_delete(self._all(keys))

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        whole = {self._whole(key): entry._replace(key=self._whole(key)) for key, entry in seen.items()}
        with self._named():
            return {key.removeprefix(self.prefix): why for key, why in self.engine._delete_unchanged(whole).items()}

    def _add(self, key: str, value: BytesLike) -> bool:
        return self.engine._add(self._whole(key), value)

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        return self.engine._replace(self._whole(key), value, expected)

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        return self.engine._lock_attempts(self._whole(key))

    def lock(self, key: str, *, timeout_seconds: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock of the whole key."""
        return self.engine.lock(self._whole(key), timeout_seconds=timeout_seconds)

    def _rename(self, key: str, new_key: str) -> bool:
        return self.engine._rename(self._whole(key), self._whole(new_key))

    def _open_writer(self, key: str) -> AbstractContextManager[IO[bytes]]:
        return self.engine._open_writer(self._whole(key))

    @contextmanager
    def _open_writer_at(self, key: str, time: datetime | None) -> Iterator[IO[bytes]]:
        with self.engine._open_writer_at(self._whole(key), time) as file:
            yield file
