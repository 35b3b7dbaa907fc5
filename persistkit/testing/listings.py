"""ListingsContract: what is stored, listed truly."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from persistkit.engine import Engine
from persistkit.entry import Entry
from persistkit.errors import ListingNotSupportedError
from persistkit.keys import filename_for
from persistkit.testing.sharing import run_threads
from persistkit.testing.values import ValuesContract

__all__ = ["ListingsContract"]

_PREFIXES: Final = ("", "A", "A_", "A_%", "*", "[", "[a]", "?", "\\", "a/", "é", "missing")
_PREFIXED: Final = ("A_%1", "A_x", "Ab", "a_%1", "AB1", "*", "*x", "[", "[a]b", "a", "?q", "\\d", "a/b", "é", "e", "")


class ListingsContract(ValuesContract):
    """A listing shows every key, once, in the order of its bytes; a prefix is literal text."""

    @pytest.fixture
    def listed(self, engine: Engine) -> Engine:
        """Give the engine of one test, where it lists."""
        if not self._lists(engine):
            pytest.skip("this backend cannot list")
        return engine

    def test_what_cannot_list_says_so(self, engine: Engine) -> None:
        """Nothing stored is an empty listing; no listing at all is an error."""
        for listing in (engine.list_keys, engine.key_count, lambda: list(engine.entries("a"))):
            if self._lists(engine):
                assert not listing()
            else:
                with pytest.raises(ListingNotSupportedError):
                    listing()

    def test_a_listing_shows_key_size_time_and_filename(self, listed: Engine) -> None:
        """An entry tells the true key, the size, when it was saved and the hashed filename."""
        sizes = {"session:1": 3, "日本語": 0, "": 70_000}
        began = datetime.now(UTC) - timedelta(seconds=5)
        listed.batch_save({key: b"x" * size for key, size in sizes.items()})
        entries = {entry.key: entry for entry in listed.entries()}
        assert {key: entry.size for key, entry in entries.items()} == sizes
        for key, entry in entries.items():
            assert key is not None
            assert isinstance(entry, Entry)
            assert (entry.filename, entry.ambiguous) == (filename_for(key), False)
            if entry.modified is not None:
                assert entry.modified.utcoffset() == timedelta(0)
                assert began <= entry.modified <= datetime.now(UTC) + timedelta(seconds=5)

    def test_a_prefix_is_literal_text(self, listed: Engine) -> None:
        """A prefix is what the key starts with, never a pattern, a path or another letter case."""
        listed.batch_save(dict.fromkeys(_PREFIXED, b"value"))
        for prefix in _PREFIXES:
            expected = sorted(key for key in _PREFIXED if key.startswith(prefix))
            assert listed.list_keys(prefix) == expected
            assert sorted(entry.key or "" for entry in listed.entries(prefix)) == expected
        for listing in (listed.list_keys, listed.entries):
            with pytest.raises(TypeError):
                listing(b"A")  # type: ignore[arg-type]  # what a type checker refuses

    def test_keys_are_listed_in_the_order_of_their_bytes(self, listed: Engine) -> None:
        """Keys come sorted by their UTF-8 bytes, not by a language and not by UTF-16."""
        ordered = ["", "A", "B", "a", "a/b", "ab", "é", "\uffee", "🦀", "🦀a"]
        listed.batch_save(dict.fromkeys(reversed(ordered), b"value"))
        assert listed.list_keys() == ordered

    def test_a_listing_during_writes_shows_what_stays(self, listed: Engine) -> None:
        """While others save and delete, a listing shows each key that was there all along exactly once."""
        stays = [f"stays:{number:04}" for number in range(1500)]
        listed.batch_save(dict.fromkeys(stays, b"value"))
        done = threading.Event()
        seen: list[str] = []

        def disturb() -> None:
            number = 0
            while not done.is_set():
                number += 1
                listed.batch_save({f"comes:{number}": b"value", "stays:0700": b"again"})
                listed.batch_delete([f"comes:{number - 1}"])

        def read() -> None:
            try:
                seen.extend(entry.key or "" for entry in listed.entries())
            finally:
                done.set()

        run_threads(disturb, read)
        assert sorted(key for key in seen if key.startswith("stays:")) == stays

    def test_what_changed_since_it_was_seen_is_not_deleted(self, listed: Engine) -> None:
        """``delete_unchanged`` removes what is as it was seen, and says of everything newer why it was kept."""
        listed.batch_save({key: key.encode() for key in ("", "same", "a>_", "longer", "gone", "unseen")})
        seen = [entry for entry in listed.entries() if entry.key != "unseen"]
        listed.save("longer", b"a longer value")
        listed.delete("gone")
        kept = listed.delete_unchanged(seen)
        assert list(kept) == ["longer"]
        assert "changed after it was listed" in kept["longer"]
        for key, value in {
            "same": None,
            "": None,
            "a>_": None,
            "longer": b"a longer value",
            "unseen": b"unseen",
        }.items():
            self._check(listed, key, value)
        assert listed.delete_unchanged([]) == listed.delete_unchanged(iter(seen[:0])) == {}
        assert listed.delete_unchanged(entry for entry in listed.entries() if entry.key == "longer") == {}
        assert listed.list_keys() == ["unseen"]

    def test_a_listing_can_be_left_early(self, listed: Engine) -> None:
        """A listing that is not read to its end holds nothing up, and may be continued in another thread."""
        listed.batch_save({f"key:{number}": b"value" for number in range(50)})
        left = [listed.entries() for _ in range(20)]
        for listing in left:
            next(listing)
        listed.save("key:1", b"after")
        self._check(listed, "key:1", b"after")
        rest: list[Entry] = []
        run_threads(lambda: rest.extend(left[0]))
        assert len(rest) == 49
