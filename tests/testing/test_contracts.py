"""The shipped contracts: each promise is broken by an engine that is almost right, and the contract must notice."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import PersistenceError, StorageError
from persistkit.testing import EngineContract


class HexEngine(Engine):
    """One file per key, named by its bytes in hex: right, as notebook 06 teaches it, for keys of up to 100 bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_for(self, key: str) -> Path:
        """Return the file of a key."""
        return self.folder / f"k{key.encode().hex()}"

    def _save(self, key: str, value: BytesLike) -> None:
        path = self.path_for(key)
        new = path.with_name(uuid.uuid4().hex)
        new.write_bytes(value)
        new.replace(path)

    def _load(self, key: str) -> bytes | None:
        try:
            return self.path_for(key).read_bytes()
        except FileNotFoundError:
            return None

    def _delete(self, key: str) -> None:
        self.path_for(key).unlink(missing_ok=True)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for path in self.folder.glob("k*"):
            key = bytes.fromhex(path.name[1:]).decode()
            if key.startswith(prefix):
                yield Entry(key, path.stat().st_size, None)


class SharesOneTempName(HexEngine):
    """Two saves of a key write into one file: torn values, and errors."""

    def _save(self, key: str, value: BytesLike) -> None:
        new = self.path_for(key).with_suffix(".new")
        new.write_bytes(value)
        new.replace(self.path_for(key))


class WritesInPlace(HexEngine):
    """A reader sees what has been written so far."""

    def _save(self, key: str, value: BytesLike) -> None:
        self.path_for(key).write_bytes(value)


class AddsInTwoSteps(HexEngine):
    """Two who add at once both believe that they did."""

    def _add(self, key: str, value: BytesLike) -> bool:
        if self._exists(key):
            return False
        time.sleep(0.001)
        self._save(key, value)
        return True


class ReplacesInTwoSteps(HexEngine):
    """What another saved between looking and saving is lost."""

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        if self._load(key) != expected:
            return False
        time.sleep(0.001)
        self._save(key, value)
        return True


class ComparesLengths(HexEngine):
    """Another value of the same length counts as the expected one."""

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        stored = self._load(key)
        return stored is not None and len(stored) == len(expected) and super()._replace(key, value, stored)


class FoldsCase(HexEngine):
    """Two keys share a value."""

    def path_for(self, key: str) -> Path:
        """Return the file of a key."""
        return super().path_for(key.lower())


class TakesPrefixForPattern(HexEngine):
    """A prefix is taken as a pattern of SQL is."""

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for entry in super()._entries(""):
            if entry.key is not None and (entry.key.startswith(prefix) or prefix == "A_"):
                yield entry


class CachesForEver(HexEngine):
    """What was loaded once is given again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cache: dict[str, bytes] = {}

    def _load_cached(self, key: str) -> bytes | None:
        if key not in self.cache and (value := self._load(key)) is not None:
            self.cache[key] = value
        return self.cache.get(key)


class WritesStreamsAtOnce(HexEngine):
    """What a failing block wrote stays."""

    def _open_writer(self, key: str) -> io.BufferedWriter:
        return self.path_for(key).open("wb")


class LosesTheEndOfRanges(HexEngine):
    """A range that reaches beyond the value is nothing."""

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        value = self._load(key)
        return None if value is None or start + size > len(value) else value[start : start + size]


class FailsForMissing(HexEngine):
    """A missing key is an error."""

    def _load(self, key: str) -> bytes | None:
        if (value := super()._load(key)) is None:
            raise StorageError("nothing there")
        return value


CAUGHT: dict[Callable[[Path], Engine], str] = {
    SharesOneTempName: "test_a_value_is_never_torn",
    WritesInPlace: "test_a_value_is_never_torn",
    AddsInTwoSteps: "test_of_racing_adds_exactly_one_wins",
    ReplacesInTwoSteps: "test_a_counter_by_replace_is_exact",
    ComparesLengths: "test_replace_compares_first",
    FoldsCase: "test_two_keys_never_share_a_value",
    TakesPrefixForPattern: "test_a_prefix_is_literal_text",
    CachesForEver: "test_what_is_cached_is_never_stale",
    WritesStreamsAtOnce: "test_a_failing_writer_leaves_the_old_value",
    LosesTheEndOfRanges: "test_a_part_of_a_value_is_read",
    FailsForMissing: "test_batches_do_what_single_operations_do",
}


@pytest.mark.parametrize(("mutant", "name"), CAUGHT.items(), ids=lambda given: getattr(given, "__name__", given))
def test_an_engine_that_is_wrong_is_caught(mutant: Callable[[Path], Engine], name: str, tmp_path: Path) -> None:
    """The named test of the contract passes on the right engine and fails on the one that is wrong."""
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    test = getattr(EngineContract(), name)
    test(HexEngine(tmp_path / "right"))
    with pytest.raises((AssertionError, OSError, PersistenceError)):
        test(mutant(tmp_path / "wrong"))
