"""ReadOnlyEngine: another engine with its writes refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Never

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import ReadOnlyError

__all__ = ["ReadOnlyEngine", "refusal"]


def refusal(tried: str, place: str) -> ReadOnlyError:
    """Return the error that says what was tried on what was opened read only."""
    return ReadOnlyError(
        f"{tried}: {place} was opened read only; to write, open it without read_only=True, or, where it is another "
        "program's, copy it first: store.copy_to(...)"
    )


def _refused(tried: str) -> Callable[..., Never]:
    """Return a method that refuses to write; ``tried`` may name its first argument."""

    def refuse(self: ReadOnlyEngine, first: object, *_: object) -> Never:
        raise refusal(tried.format(first), repr(self.engine))

    return refuse


class ReadOnlyEngine(Engine):
    """Reads go to the engine it holds; every write raises ``ReadOnlyError`` before any I/O.

    Attributes:
        engine: the engine that is read.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.max_value_bytes = engine.max_value_bytes
        self.concurrency = engine.concurrency
        self.blocks = engine.blocks  # type: ignore[misc]  # constant for each class, except for this wrapper

    def __repr__(self) -> str:
        return f"ReadOnlyEngine({self.engine!r})"

    _save = _refused("save {!r}")
    _batch_save = _refused("save a batch")
    _delete = _refused("delete {!r}")
    _batch_delete = _refused("delete a batch")
    _delete_unchanged = _refused("delete a batch")
    _add = _refused("add {!r}")
    _replace = _refused("replace {!r}")
    _rename = _refused("rename {!r}")
    _lock_attempts = _refused("lock {!r}")
    _open_writer = _refused("open {!r} for writing")

    def check(self, *, repair: bool = False) -> list[Any]:
        """Look for problems, where the engine can; repairing them is refused. Any: the engine's own findings."""
        if repair:
            raise refusal("check with repair=True", repr(self.engine))
        findings: list[Any] = self.engine.check()  # type: ignore[attr-defined]  # engines that have one
        return findings

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value under a filename, where the engine has filenames."""
        value: bytes | None = self.engine.load_filename(filename)  # type: ignore[attr-defined]  # engines that have one
        return value

    def _load(self, key: str) -> bytes | None:
        return self.engine._load(key)

    def _load_buffer(self, key: str) -> BytesLike | None:
        return self.engine._load_buffer(key)

    def _load_cached(self, key: str) -> bytes | None:
        return self.engine._load_cached(key)

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        return self.engine._batch_load(keys)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        return self.engine._entries(prefix)

    def _list_keys(self, prefix: str) -> list[str]:
        return self.engine._list_keys(prefix)

    def _exists(self, key: str) -> bool:
        return self.engine._exists(key)

    def _existing(self, keys: list[str]) -> set[str]:
        return self.engine._existing(keys)

    def _key_count(self) -> int:
        return self.engine._key_count()

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        return self.engine._read_range(key, start, size)

    def _open_reader(self, key: str) -> io.BufferedIOBase | None:
        return self.engine._open_reader(key)

    def _change_token(self) -> object | None:
        return self.engine._change_token()

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
