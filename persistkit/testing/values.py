"""ValuesContract: what is saved is what is loaded, one by one, in batches and as file objects."""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any, ClassVar, Final, cast

import pytest

from persistkit.engine import Engine
from persistkit.errors import BatchError, InvalidKeyError, KeyCollisionError, PersistenceError, ValueTooLargeError

__all__ = ["ValuesContract"]

_LARGE: Final = bytes(range(256)) * 65_536
_LONG_AGO: Final = datetime(2021, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
_CHUNK: Final = 3 * 1024 * 1024
_TRIABLE_BYTES: Final = 8 * 1024**3

_KEYS: Final = {
    "empty": "",
    "dots": "..",
    "upwards": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "slashes": "a//b/\\c",
    "template": "session:7f3c:step:12",
    "prompt": "<|im_start|>",
    "ambiguous": "a>_",
    "pattern": "A_%*[x]?{}^$ ",
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
_ON_A_KEY: Final[dict[str, tuple[Any, ...]]] = {
    "save": (b"value",),
    "add": (b"value",),
    "replace": (b"value", b"old"),
    "read_range": (0, 1),
    **dict.fromkeys(("load", "load_cached", "delete", "exists", "open_reader", "open_writer"), ()),
}
_ALIKE: Final = (
    ("a?>", "a>_"),
    ("Case", "case"),
    ("<|im", ">:im"),
    ("é", "e\u0301"),
    ("a/b", "a_b", "a\\b"),
    ("x", "x ", " x", "x/"),
)


class ValuesContract:
    """Keys and values, one by one, in batches and as file objects; how each test comes by its engine."""

    tries_the_limit: ClassVar[bool] = False

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        """Make the engine of one test, and close it."""
        with self._open() as engine:
            yield engine

    def _open(self) -> Engine:
        raise NotImplementedError

    def _stored(self, engine: Engine, key: str) -> bytes | None:
        """Return the value of ``key`` by the second route."""
        raise NotImplementedError

    def _lists(self, engine: Engine) -> bool:  # noqa: ARG002
        """Tell whether listings are put to the test."""
        return True

    def _check(self, engine: Engine, key: str, value: bytes | None) -> None:
        assert engine.load(key) == value
        assert engine.exists(key) is (value is not None)
        assert self._stored(engine, key) == value

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    def test_any_key_is_stored_under_its_own_name(self, engine: Engine, key: str) -> None:
        """A saved value is loaded again, replaced and removed, whatever its key."""
        self._check(engine, key, None)
        for value in (b"first", b"2"):
            engine.save(key, value)
            self._check(engine, key, value)
        if self._lists(engine):
            assert engine.list_keys() == [key]
        engine.delete(key)
        self._check(engine, key, None)
        engine.delete(key)

    @pytest.mark.parametrize("key", _INVALID_KEYS.values(), ids=_INVALID_KEYS)
    def test_what_cannot_be_a_key_is_refused(self, engine: Engine, key: str) -> None:
        """Every operation refuses a key that some engine could not store."""
        for name, arguments in _ON_A_KEY.items():
            with pytest.raises(InvalidKeyError):
                getattr(engine, name)(key, *arguments)
        for call in (engine.batch_load, engine.batch_delete, engine.existing):
            with pytest.raises(InvalidKeyError):
                call([key])
        with pytest.raises(InvalidKeyError):
            engine.batch_save({"good": b"", key: b""})
        self._check(engine, "good", None)

    @pytest.mark.parametrize("value", ["text", None, 3, ["list"]], ids=["text", "none", "number", "list"])
    def test_what_is_not_bytes_is_refused(self, engine: Engine, value: bytes) -> None:
        """A value that is not bytes-like is refused on every way, and nothing is stored."""
        for name, arguments in {"save": (value,), "add": (value,), "replace": (value, b"old")}.items():
            with pytest.raises(TypeError):
                getattr(engine, name)("key", *arguments)
        with pytest.raises(TypeError):
            engine.batch_save({"good": b"value", "key": value})
        with pytest.raises(TypeError), engine.open_writer("key") as writer:
            writer.write(value)
        self._check(engine, "key", None)
        self._check(engine, "good", None)

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\0", _LARGE], ids=["empty", "all", "nul", "16-MiB"])
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
        with engine.open_writer("stream") as writer:
            for chunk in (spaced, value, memoryview(b"wide").cast("H")):
                writer.write(chunk)
        value[:] = b"after."
        for key in ("array", "added", "array in a batch"):
            self._check(engine, key, b"before")
        self._check(engine, "view", b"bfr")
        self._check(engine, "stream", b"bfrbeforewide")

    def test_a_part_of_a_value_is_read(self, engine: Engine) -> None:
        """A range ends where the value ends, is empty beyond it, and None where there is no value."""
        engine.batch_save({"key": _LARGE, "empty": b""})
        end = len(_LARGE)
        for start, size in (
            (0, 5),
            (0, 0),
            (70_000, 300_000),
            (end - 3, 3),
            (end - 3, 99),
            (end, 1),
            (2**64, 1),
            (3, 2**64),
        ):
            assert engine.read_range("key", start, size) == _LARGE[start : start + size]
        assert engine.read_range("empty", 0, 1) == b""
        assert engine.read_range("missing", 0, 1) is None
        for start, size in ((-1, 1), (0, -1)):
            with pytest.raises(ValueError, match="range"):
                engine.read_range("key", start, size)

    def test_what_is_cached_is_never_stale(self, engine: Engine) -> None:
        """``load_cached`` gives the present value or None, after every change."""
        for value in (b"first", b"2", b"", _LARGE):
            engine.save("key", value)
            assert engine.load_cached("key") in (None, value)
            engine.load("key")
            assert engine.load_cached("key") in (None, value)
        engine.delete("key")
        assert engine.load_cached("key") is None

    def test_a_value_over_the_limit_is_refused_before_it_is_sent(self, engine: Engine) -> None:
        """A larger value than the stated limit is refused on every way, and the old one stays."""
        limit = engine.max_value_bytes
        assert self.tries_the_limit is (limit is not None and limit <= _TRIABLE_BYTES), "set tries_the_limit"
        if limit is None or not self.tries_the_limit:
            pytest.skip("this engine states no limit that could be tried")
        engine.save("key", b"old")
        # Pages of a mapping that nobody touches take no memory.
        value = memoryview(mmap.mmap(-1, limit + 1, prot=mmap.PROT_READ))
        for name, arguments in {"save": (value,), "add": (value,), "replace": (value, b"old")}.items():
            with pytest.raises(ValueTooLargeError):
                getattr(engine, name)("key", *arguments)
        with pytest.raises(ValueTooLargeError):
            engine.batch_save({"key": value})
        with pytest.raises(ValueTooLargeError), engine.open_writer("key") as writer:
            writer.write(value)
        self._check(engine, "key", b"old")

    def test_two_keys_never_share_a_value(self, engine: Engine) -> None:
        """Keys that look alike, or hash alike, are kept apart, or the second is refused by name."""
        for group in _ALIKE:
            stored: dict[str, bytes] = {}
            for key in group:
                try:
                    engine.save(key, key.encode())
                except KeyCollisionError:
                    assert stored, "the first of a group is always taken"
                else:
                    stored[key] = key.encode()
            for key in group:
                self._check(engine, key, stored.get(key))

    def test_batches_do_what_single_operations_do(self, engine: Engine) -> None:
        """A batch saves all, loads in the asked order with None for the missing, and deletes what is there."""
        engine.batch_save([("a", b"lost"), ("b", b"B"), ("", b"empty"), ("a", b"A")])
        assert engine.batch_load(["b", "missing", "a", "b", ""]) == [b"B", None, b"A", b"B", b"empty"]
        assert engine.existing(iter(["b", "missing", "a", "b", ""])) == {"a", "b", ""}
        engine.batch_delete(iter(["b", "missing", "b"]))
        self._check(engine, "a", b"A")
        self._check(engine, "b", None)
        engine.batch_save({})
        assert engine.batch_load([]) == []
        assert engine.existing([]) == set()
        engine.batch_delete([])
        for call in (engine.batch_load, engine.batch_delete, engine.existing):
            with pytest.raises(TypeError):
                call("a")  # not taken letter by letter

    def test_a_value_is_stored_as_saved_at_a_given_time(self, engine: Engine) -> None:
        """What keeps times lists a copied value with its own time, and what is saved later with the present one."""
        times = {key: _LONG_AGO + number * timedelta(hours=1) for number, key in enumerate(("a", "b", "a>_"))}
        engine.batch_save({"a": b"A", "b": b"B", "a>_": b"C", "now": b"D"}, times=times)
        engine.batch_save({"alone": b"E"}, times={"alone": _LONG_AGO})
        with engine.open_writer("stream", time=_LONG_AGO) as writer:
            writer.write(_LARGE)
        self._check(engine, "a", b"A")
        self._check(engine, "stream", _LARGE)
        if self._lists(engine) and engine.keeps_times:
            listed = {entry.key: entry.modified for entry in engine.entries()}
            assert {key: listed[key] for key in times} == times
            assert listed["alone"] == listed["stream"] == _LONG_AGO
            assert (listed["now"] or _LONG_AGO) > _LONG_AGO + timedelta(days=365)
            engine.save("a", b"changed")
            assert next(entry.modified for entry in engine.entries("a") if entry.key == "a") != times["a"]

    def test_a_failing_item_is_named(self, engine: Engine) -> None:
        """When items of a batch collide, every other one is stored, or none, and the error names those that failed."""
        items = {"good": b"1", "a?>": b"2", "a>_": b"3"}
        failures: dict[str, Exception] = {}
        try:
            engine.batch_save(items)
        except BatchError as error:
            failures = error.failures
        assert set(failures) <= set(items)
        assert all(isinstance(failure, PersistenceError) for failure in failures.values())
        assert "good" not in failures or set(failures) == set(items)
        for key, value in items.items():
            self._check(engine, key, None if key in failures else value)

    def test_ten_thousand_keys(self, engine: Engine) -> None:
        """Ten thousand keys are saved, loaded, listed without a limit and removed."""
        items = {f"run:{number % 7}:step:{number:05}": b"%d" % number for number in range(10_000)}
        engine.batch_save(items)
        assert engine.batch_load(items) == list(items.values())
        some = [*items][::100]
        assert engine.existing(["other", *some]) == set(some)
        if self._lists(engine):
            assert engine.list_keys() == sorted(items)
            assert engine.list_keys("run:3:") == sorted(key for key in items if key.startswith("run:3:"))
            assert engine.key_count() == len(items)
        engine.batch_delete(items)
        assert engine.batch_load(some) == [None] * len(some)

    def test_a_value_is_read_as_a_file(self, engine: Engine) -> None:
        """A reader is readable and seekable, and None for a missing key."""
        assert engine.open_reader("missing") is None
        engine.save("key", _LARGE)
        reader = engine.open_reader("key")
        assert isinstance(reader, io.BufferedIOBase)
        with reader:
            assert reader.readable()
            assert reader.seekable()
            chunks = [reader.read(5)]
            while chunk := reader.read(_CHUNK):
                chunks.append(chunk)
            assert max(map(len, chunks)) <= _CHUNK
            assert b"".join(chunks) == _LARGE
            assert reader.seek(-3, io.SEEK_END) == reader.tell() == len(_LARGE) - 3
            assert reader.read() == _LARGE[-3:]
            reader.seek(0)
            buffer = bytearray(70_000)
            assert reader.readinto(buffer) == len(buffer)
            assert buffer + reader.read() == _LARGE

    def test_a_value_is_written_as_a_file(self, engine: Engine) -> None:
        """What is written, by a zip archive too, appears, whole, when the block ends, and not before."""
        engine.save("key", b"old")
        with engine.open_writer("key") as writer:
            for start in range(0, len(_LARGE), _CHUNK):
                writer.write(memoryview(_LARGE)[start : start + _CHUNK])
            assert engine.load("key") == b"old"
        self._check(engine, "key", _LARGE)
        with engine.open_writer("empty"):
            pass
        self._check(engine, "empty", b"")
        with engine.open_writer("zip") as writer, zipfile.ZipFile(writer, "w") as archive:
            archive.writestr("member", _LARGE[:100_000])
        with cast("IO[bytes]", engine.open_reader("zip")) as reader, zipfile.ZipFile(reader) as archive:
            assert archive.read("member") == _LARGE[:100_000]

    def test_a_failing_writer_leaves_the_old_value(self, engine: Engine) -> None:
        """An exception in a writer's block discards what was written, and nothing of it is listed."""

        def fail(key: str) -> None:
            with engine.open_writer(key) as writer:
                writer.write(b"half")
                raise ZeroDivisionError

        engine.save("key", b"old")
        for key in ("key", "new"):
            with pytest.raises(ZeroDivisionError):
                fail(key)
        self._check(engine, "key", b"old")
        self._check(engine, "new", None)
        if self._lists(engine):
            assert [entry.key for entry in engine.entries()] == ["key"]
