"""ListingsContract: what is stored, listed truly."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from persistkit.engine import Engine, Entry
from persistkit.errors import ListingNotSupportedError
from persistkit.keys import filename_for
from persistkit.testing.contract import Contract, run_threads

__all__ = ["ListingsContract"]

_PREFIXES: Final = ("", "A", "A_", "A_%", "*", "[", "[a]", "?", "\\", "a/", "é", "missing")
_PREFIXED: Final = (
    "A_%1",
    "A_x",
    "Ab",
    "a_%1",
    "AB1",
    "*",
    "*x",
    "[",
    "[a]b",
    "a",
    "?q",
    "\\d",
    "a/b",
    "a//",
    "é",
    "e",
)


class ListingsContract(Contract):
    """A listing shows every key, once, in the order of its bytes; a prefix is literal text."""

    def test_a_listing_shows_key_size_time_and_filename(self, engine: Engine) -> None:
        """An entry tells the true key, the size, when it was saved and the hashed filename."""
        if not self._listing_is_tested(engine):
            return
        sizes = {"session:1": 3, "日本語": 0, "": 70_000}
        began = datetime.now(UTC) - timedelta(seconds=5)
        engine.batch_save({key: b"x" * size for key, size in sizes.items()})
        entries = {entry.key: entry for entry in engine.entries()}
        assert {key: entry.size for key, entry in entries.items()} == sizes
        for key, entry in entries.items():
            assert key is not None
            assert isinstance(entry, Entry)
            assert entry.filename == filename_for(key)
            assert not entry.ambiguous
            if entry.modified is not None:
                assert entry.modified.utcoffset() == timedelta(0)
                assert began <= entry.modified <= datetime.now(UTC) + timedelta(seconds=5)

    def test_a_prefix_is_literal_text(self, engine: Engine) -> None:
        """A prefix is what the key starts with, never a pattern, a path or another letter case."""
        if not self._listing_is_tested(engine):
            return
        engine.batch_save(dict.fromkeys(_PREFIXED, b"value"))
        for prefix in _PREFIXES:
            expected = sorted(key for key in _PREFIXED if key.startswith(prefix))
            assert engine.list_keys(prefix) == expected
            assert sorted(entry.key or "" for entry in engine.entries(prefix)) == expected
        for listing in (engine.list_keys, engine.entries):
            with pytest.raises(TypeError):
                listing(b"A")  # type: ignore[arg-type]  # what a type checker refuses

    def test_keys_are_listed_in_the_order_of_their_bytes(self, engine: Engine) -> None:
        """Keys come sorted by their UTF-8 bytes, not by a language and not by UTF-16."""
        if not self._listing_is_tested(engine):
            return
        ordered = ["", "A", "B", "a", "a/b", "ab", "é", "\uffee", "🦀", "🦀a"]
        engine.batch_save(dict.fromkeys(reversed(ordered), b"value"))
        assert engine.list_keys() == ordered

    def test_an_empty_engine_lists_nothing(self, engine: Engine) -> None:
        """A listing of nothing is empty, and no error."""
        if not self._listing_is_tested(engine):
            return
        assert engine.list_keys() == []
        assert list(engine.entries("a")) == []
        assert engine.key_count() == 0

    def test_a_listing_during_writes_shows_what_stays(self, engine: Engine) -> None:
        """While others save and delete, a listing shows each key that was there all along exactly once."""
        if not self._listing_is_tested(engine):
            return
        engine.batch_save({f"stays:{number:04}": b"value" for number in range(1500)})
        done = threading.Event()
        seen: list[str] = []

        def disturb() -> None:
            number = 0
            while not done.is_set():
                number += 1
                engine.batch_save({f"comes:{number}": b"value", "stays:0700": b"again"})
                engine.batch_delete([f"comes:{number - 1}"])

        def read() -> None:
            try:
                seen.extend(entry.key or "" for entry in engine.entries())
            finally:
                done.set()

        run_threads(disturb, read)
        stayed = sorted(key for key in seen if key.startswith("stays:"))
        assert stayed == [f"stays:{number:04}" for number in range(1500)]

    def test_a_listing_can_be_left_early(self, engine: Engine) -> None:
        """A listing that is not read to its end holds nothing up."""
        if not self._listing_is_tested(engine):
            return
        engine.batch_save({f"key:{number}": b"value" for number in range(50)})
        left = [engine.entries() for _ in range(20)]
        for listing in left:
            next(listing)
        engine.save("key:1", b"after")
        self._check(engine, "key:1", b"after")

    def _listing_is_tested(self, engine: Engine) -> bool:
        """Tell whether the engine lists; where it does not, see that it says so."""
        if self._lists(engine):
            return True
        for listing in (engine.list_keys, engine.key_count, lambda: list(engine.entries())):
            with pytest.raises(ListingNotSupportedError):
                listing()
        return False
