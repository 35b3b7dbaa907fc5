"""ValuesContract: one key, one value."""

from __future__ import annotations

import mmap
from typing import ClassVar, Final

import pytest

from persistkit.engine import Engine
from persistkit.errors import BatchError, InvalidKeyError, KeyCollisionError, ValueTooLargeError
from persistkit.testing.contract import Contract

__all__ = ["LARGE", "ValuesContract"]

_MEBIBYTE: Final = 1024 * 1024
LARGE: Final = bytes(range(256)) * (16 * _MEBIBYTE // 256)
_TRIABLE_BYTES: Final = 8 * 1024 * _MEBIBYTE

_KEYS: Final = {
    "empty": "",
    "blank": " ",
    "dot": ".",
    "dots": "..",
    "upwards": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "slashes": "a//b/",
    "backslash": "a\\b",
    "template": "session:7f3c:step:12",
    "prompt": "<|im_start|>",
    "ambiguous": "a>_",
    "pattern": "A_%*[x]?{}^$",
    "newline": "line 1\nline 2\r\n\t\x01\x1b\x7f",
    "percent": "100%25%2F%00",
    "filename": "a-000000000002b606.bin",
    "unicode": "日本語/メモ 🦀 é \uffff",
    "longest": "k" * 1024,
    "longest-unicode": "é" * 512,
}
_INVALID_KEYS: Final = {
    "nul": "a\0b",
    "too-long": "k" * 1025,
    "too-long-in-bytes": "é" * 513,
    "surrogate": "\ud800",
    "bytes": b"key",
    "none": None,
}


class ValuesContract(Contract):
    """What is saved under a key is what is loaded, whatever the key and the value."""

    tries_the_limit: ClassVar[bool] = False

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    def test_any_key_is_stored_under_its_own_name(self, engine: Engine, key: str) -> None:
        """A saved value is loaded again, replaced and removed, whatever its key."""
        self._check(engine, key, None)
        engine.save(key, b"first")
        self._check(engine, key, b"first")
        engine.save(key, b"2")
        self._check(engine, key, b"2")
        if self._lists(engine):
            assert engine.list_keys() == [key]
        engine.delete(key)
        self._check(engine, key, None)
        engine.delete(key)

    @pytest.mark.parametrize("key", _INVALID_KEYS.values(), ids=_INVALID_KEYS)
    def test_what_cannot_be_a_key_is_refused(self, engine: Engine, key: str) -> None:
        """Every operation refuses a key that some engine could not store."""
        calls = (
            lambda: engine.save(key, b"value"),
            lambda: engine.add(key, b"value"),
            lambda: engine.replace(key, b"value", b"old"),
            lambda: engine.load(key),
            lambda: engine.load_cached(key),
            lambda: engine.read_range(key, 0, 1),
            lambda: engine.open_reader(key),
            lambda: engine.open_writer(key),
            lambda: engine.delete(key),
            lambda: engine.exists(key),
            lambda: engine.batch_save({"good": b"value", key: b"value"}),
            lambda: engine.batch_load(["good", key]),
            lambda: engine.batch_delete(["good", key]),
        )
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        self._check(engine, "good", None)

    @pytest.mark.parametrize("value", ["text", None, 3, ["list"]], ids=["text", "none", "number", "list"])
    def test_what_is_not_bytes_is_refused(self, engine: Engine, value: bytes) -> None:
        """A value that is not bytes-like is refused, alone and in a batch, and nothing is stored."""
        calls = (
            lambda: engine.save("key", value),
            lambda: engine.add("key", value),
            lambda: engine.replace("key", value, b"old"),
            lambda: engine.replace("key", b"value", value),
            lambda: engine.batch_save({"good": b"value", "key": value}),
        )
        for call in calls:
            with pytest.raises(TypeError):
                call()
        self._check(engine, "key", None)
        self._check(engine, "good", None)

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\0", LARGE], ids=["empty", "all", "nul", "16-MiB"])
    def test_values_come_back_byte_for_byte(self, engine: Engine, value: bytes) -> None:
        """Values of any bytes, none at all and 16 MiB, are kept byte for byte, and their size is listed."""
        engine.save("key", value)
        self._check(engine, "key", value)
        assert engine.load_buffer("key") == value
        if self._lists(engine):
            assert [entry.size for entry in engine.entries()] == [len(value)]

    def test_a_bytearray_is_stored_as_it_was(self, engine: Engine) -> None:
        """Bytearrays and memory views are stored, and what becomes of them later does not matter."""
        value = bytearray(b"before")
        engine.save("array", value)
        assert engine.add("added", value)
        assert engine.replace("added", value, memoryview(b"before"))
        spaced: memoryview[int] = memoryview(bytes(value))[::2]
        engine.batch_save([("view", spaced), ("array in a batch", value)])
        value[:] = b"after."
        for key in ("array", "added", "array in a batch"):
            self._check(engine, key, b"before")
        self._check(engine, "view", b"bfr")

    def test_a_part_of_a_value_is_read(self, engine: Engine) -> None:
        """A range ends where the value ends, is empty beyond it, and None where there is no value."""
        engine.batch_save({"key": LARGE, "empty": b""})
        for start, size in ((0, 5), (0, 0), (1, 2), (70_000, 300_000), (len(LARGE) - 3, 3), (len(LARGE) - 3, 99)):
            assert engine.read_range("key", start, size) == LARGE[start : start + size]
        assert engine.read_range("key", len(LARGE), 1) == b""
        assert engine.read_range("key", len(LARGE) + 7, 1) == b""
        assert engine.read_range("empty", 0, 1) == b""
        assert engine.read_range("missing", 0, 1) is None
        for start, size in ((-1, 1), (0, -1)):
            with pytest.raises(ValueError, match="range"):
                engine.read_range("key", start, size)

    def test_what_is_cached_is_never_stale(self, engine: Engine) -> None:
        """``load_cached`` gives the present value or None, after every change."""
        assert engine.load_cached("key") is None
        for value in (b"first", b"2", b"", LARGE):
            engine.save("key", value)
            assert engine.load_cached("key") in (None, value)
            engine.load("key")
            assert engine.load_cached("key") in (None, value)
        engine.delete("key")
        assert engine.load_cached("key") is None

    def test_a_limit_is_stated_where_it_is_tried(self, engine: Engine) -> None:
        """``tries_the_limit`` is True exactly where the engine states a limit of at most 8 GiB."""
        limit = engine.max_value_bytes
        assert self.tries_the_limit is (limit is not None and limit <= _TRIABLE_BYTES)

    def test_a_value_over_the_limit_is_refused_before_it_is_sent(self, engine: Engine) -> None:
        """A value larger than the stated limit is refused on every way without being sent, and the old one stays."""
        if not self.tries_the_limit or engine.max_value_bytes is None:
            pytest.skip("this engine states no limit that could be tried")
        engine.save("key", b"old")
        # Pages of a mapping that nobody touches take no memory.
        value = memoryview(mmap.mmap(-1, engine.max_value_bytes + 1, prot=mmap.PROT_READ))
        calls = (
            lambda: engine.save("key", value),
            lambda: engine.add("new", value),
            lambda: engine.replace("key", value, b"old"),
        )
        for call in calls:
            with pytest.raises(ValueTooLargeError):
                call()
        with pytest.raises((ValueTooLargeError, BatchError)):
            engine.batch_save({"key": value})
        with pytest.raises(ValueTooLargeError), engine.open_writer("key") as writer:
            writer.write(value)
        self._check(engine, "key", b"old")
        self._check(engine, "new", None)

    def test_two_keys_never_share_a_value(self, engine: Engine) -> None:
        """Keys that look alike, or hash alike, are kept apart, or the second is refused by name."""
        groups = (
            ("a?>", "a>_"),
            ("Case", "case"),
            ("<|im", ">:im"),
            ("é", "e\u0301"),
            ("a/b", "a_b", "a\\b"),
            ("x", "x ", " x", "x/"),
        )
        for group in groups:
            stored: dict[str, bytes] = {}
            for key in group:
                try:
                    engine.save(key, key.encode())
                except KeyCollisionError:
                    pass
                else:
                    stored[key] = key.encode()
            assert stored, "the first of a group is always taken"
            for key in group:
                self._check(engine, key, stored.get(key))
