"""BackendContract: the tests every backend passes, those shipped here and yours."""

from __future__ import annotations

import asyncio
import inspect
import mmap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from persistkit.backend import Entry, PersistenceBackend
from persistkit.blocking import BlockingBackend
from persistkit.errors import (
    BatchError,
    InvalidKeyError,
    KeyCollisionError,
    ListingNotSupportedError,
    PersistenceError,
    ValueTooLargeError,
)
from persistkit.filenames import filename_for

__all__ = ["BackendContract"]


def __dir__() -> list[str]:
    return __all__


_MEBIBYTE: Final = 1024 * 1024
_LARGE: Final = bytes(range(256)) * (16 * _MEBIBYTE // 256)
_QUIET_SECONDS: Final = 30
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
    "unicode": "日本語/メモ 🦀 é",
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


class BackendContract:
    """The contract of ``PersistenceBackend`` as tests, for a backend of your own.

    Subclass it in a test module, under a name that begins with ``Test``, and say how to make an empty backend; pytest
    with the plugin that anyio brings runs the rest, with nothing to configure. Listing is put to the test where the
    backend overrides ``entries``; where it does not, the tests see that it says so.

    Give ``read_raw`` where there is a second way to what was stored (the file, the row): then each value saved is
    also read back by it. What a test needs (a folder, a server) comes by a fixture of the subclass with
    ``autouse=True``. For full explanations of failures, write
    ``pytest.register_assert_rewrite("persistkit.testing")`` in ``conftest.py``.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> class TestMemory(BackendContract):
        ...     def make_backend(self) -> PersistenceBackend:
        ...         return MemoryPersistenceBackend()
    """

    pytestmark = pytest.mark.anyio

    def make_backend(self) -> PersistenceBackend | Awaitable[PersistenceBackend]:
        """Return an empty backend; override it, with or without ``async``."""
        raise NotImplementedError(f"{type(self).__name__} must override make_backend() to return an empty backend")

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Return the value of ``key`` by a route that is not ``load``, None when there is none; override it."""
        return await backend.load(key)

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, for which every backend is made."""
        return "asyncio"

    @pytest.fixture
    async def backend(self, anyio_backend: str) -> AsyncIterator[PersistenceBackend]:  # noqa: ARG002 - chooses the loop
        """Make the backend of one test, and close it."""
        backend = await self._made()
        yield backend
        await backend.aclose()

    async def _made(self) -> PersistenceBackend:
        made = self.make_backend()
        return await made if inspect.isawaitable(made) else made

    async def _check(self, backend: PersistenceBackend, key: str, value: bytes | None) -> None:
        assert await backend.load(key) == value
        assert await backend.exists(key) is (value is not None)
        assert await self.read_raw(backend, key) == value

    # One key, one value

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    async def test_any_key_is_stored_under_its_own_name(self, backend: PersistenceBackend, key: str) -> None:
        """A saved value is loaded again, replaced and removed, whatever its key."""
        await self._check(backend, key, None)
        await backend.save(key, b"first")
        await self._check(backend, key, b"first")
        await backend.save(key, b"2")
        await self._check(backend, key, b"2")
        if _lists(backend):
            assert await backend.list_keys() == [key]
        await backend.delete(key)
        await self._check(backend, key, None)
        await backend.delete(key)

    @pytest.mark.parametrize("key", _INVALID_KEYS.values(), ids=_INVALID_KEYS)
    async def test_what_cannot_be_a_key_is_refused(self, backend: PersistenceBackend, key: str) -> None:
        """Every operation refuses a key that some backend could not store."""
        calls = (
            lambda: backend.save(key, b"value"),
            lambda: backend.load(key),
            lambda: backend.delete(key),
            lambda: backend.exists(key),
            lambda: backend.batch_load(["good", key]),
            lambda: backend.batch_delete(["good", key]),
        )
        for call in calls:
            with pytest.raises(InvalidKeyError):
                await call()
        with pytest.raises(InvalidKeyError):
            await backend.batch_save({"good": b"value", key: b"value"})
        await self._check(backend, "good", None)

    @pytest.mark.parametrize("value", ["text", None, 3, ["list"]], ids=["text", "none", "number", "list"])
    async def test_what_is_not_bytes_is_refused(self, backend: PersistenceBackend, value: bytes) -> None:
        """A value that is not bytes-like is refused, alone and in a batch, and nothing is stored."""
        with pytest.raises(TypeError):
            await backend.save("key", value)
        with pytest.raises(TypeError):
            await backend.batch_save({"good": b"value", "key": value})
        await self._check(backend, "key", None)
        await self._check(backend, "good", None)

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\0", _LARGE], ids=["empty", "all", "nul", "16-MiB"])
    async def test_values_come_back_byte_for_byte(self, backend: PersistenceBackend, value: bytes) -> None:
        """Values of any bytes, none at all and 16 MiB, are kept byte for byte, and their size is listed."""
        await backend.save("key", value)
        await self._check(backend, "key", value)
        if _lists(backend):
            assert [entry.size async for entry in backend.entries()] == [len(value)]

    async def test_a_bytearray_is_stored_as_it_was(self, backend: PersistenceBackend) -> None:
        """Bytearrays and memory views are stored, and what becomes of them later does not matter."""
        value = bytearray(b"before")
        await backend.save("array", value)
        spaced: memoryview[int] = memoryview(bytes(value))[::2]
        await backend.batch_save([("view", spaced), ("array in a batch", value)])
        value[:] = b"after."
        await self._check(backend, "array", b"before")
        await self._check(backend, "array in a batch", b"before")
        await self._check(backend, "view", b"bfr")

    async def test_a_value_over_the_limit_is_refused_before_it_is_sent(self, backend: PersistenceBackend) -> None:
        """A value larger than the stated limit is refused without being sent, and the old one stays.

        Where no limit is stated, or one too large to be tried here, only the statement itself is looked at.
        """
        limit = backend.max_value_bytes
        if limit is None or limit > _TRIABLE_BYTES:
            assert limit is None or isinstance(limit, int)
            return
        await backend.save("key", b"old")
        # Pages of a mapping that nobody touches take no memory.
        value = memoryview(mmap.mmap(-1, limit + 1))
        with pytest.raises(ValueTooLargeError):
            await backend.save("key", value)
        with pytest.raises((ValueTooLargeError, BatchError)):
            await backend.batch_save({"key": value})
        await self._check(backend, "key", b"old")

    async def test_two_keys_never_share_a_value(self, backend: PersistenceBackend) -> None:
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
                    await backend.save(key, key.encode())
                except KeyCollisionError:
                    pass
                else:
                    stored[key] = key.encode()
            assert stored, "the first of a group is always taken"
            for key in group:
                await self._check(backend, key, stored.get(key))

    # Batches

    async def test_batches_do_what_single_operations_do(self, backend: PersistenceBackend) -> None:
        """A batch saves all, loads in the asked order with None for the missing, and deletes what is there."""
        await backend.batch_save([("a", b"lost"), ("b", b"B"), ("", b"empty"), ("a", b"A")])
        assert await backend.batch_load(["b", "missing", "a", "b", ""]) == [b"B", None, b"A", b"B", b"empty"]
        await self._check(backend, "a", b"A")
        await backend.batch_delete(iter(["b", "missing", "b"]))
        assert await backend.batch_load(["a", "b"]) == [b"A", None]

    async def test_empty_batches_do_nothing(self, backend: PersistenceBackend) -> None:
        """A batch of nothing is no error."""
        await backend.batch_save({})
        assert await backend.batch_load([]) == []
        await backend.batch_delete([])

    async def test_one_text_is_not_a_batch(self, backend: PersistenceBackend) -> None:
        """A text given for a batch is refused instead of being taken letter by letter."""
        await backend.save("a", b"kept")
        for call in (backend.batch_load, backend.batch_delete):
            with pytest.raises(TypeError):
                await call("a")
        await self._check(backend, "a", b"kept")

    async def test_a_failing_item_is_named(self, backend: PersistenceBackend) -> None:
        """When items of a batch collide, every other one is stored, or none, and the error names those that failed."""
        items = {"good": b"1", "a?>": b"2", "a>_": b"3"}
        failures: dict[str, Exception] = {}
        try:
            await backend.batch_save(items)
        except BatchError as error:
            failures = error.failures
        assert set(failures) <= set(items)
        assert all(isinstance(failure, PersistenceError) for failure in failures.values())
        assert "good" not in failures or set(failures) == set(items)
        for key, value in items.items():
            await self._check(backend, key, None if key in failures else value)

    async def test_ten_thousand_keys(self, backend: PersistenceBackend) -> None:
        """Ten thousand keys are saved, loaded, listed without a cap and removed."""
        items = {f"run:{number % 7}:step:{number:05}": b"%d" % number for number in range(10_000)}
        await backend.batch_save(items)
        assert await backend.batch_load(items) == list(items.values())
        if _lists(backend):
            assert await backend.list_keys() == sorted(items)
            assert await backend.list_keys("run:3:") == sorted(key for key in items if key.startswith("run:3:"))
            assert await backend.key_count() == len(items)
        await backend.batch_delete(items)
        some = list(items)[::100]
        assert await backend.batch_load(some) == [None] * len(some)
        if _lists(backend):
            assert await backend.key_count() == 0

    # Listings

    async def test_a_listing_shows_key_size_time_and_filename(self, backend: PersistenceBackend) -> None:
        """An entry tells the true key, the size, when it was saved and the hashed filename."""
        if not await _listing_is_tested(backend):
            return
        sizes = {"session:1": 3, "日本語": 0, "": 70_000}
        began = datetime.now(UTC) - timedelta(seconds=5)
        await backend.batch_save({key: b"x" * size for key, size in sizes.items()})
        entries = {entry.key: entry async for entry in backend.entries()}
        assert {key: entry.size for key, entry in entries.items()} == sizes
        for key, entry in entries.items():
            assert key is not None
            assert isinstance(entry, Entry)
            assert entry.filename == filename_for(key)
            assert not entry.ambiguous
            if entry.modified is not None:
                assert entry.modified.utcoffset() == timedelta(0)
                assert began <= entry.modified <= datetime.now(UTC) + timedelta(seconds=5)

    async def test_a_prefix_is_literal_text(self, backend: PersistenceBackend) -> None:
        """A prefix is what the key starts with, never a pattern, a path or another letter case."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save(dict.fromkeys(_PREFIXED, b"value"))
        for prefix in _PREFIXES:
            expected = sorted(key for key in _PREFIXED if key.startswith(prefix))
            assert await backend.list_keys(prefix) == expected
            assert sorted([entry.key or "" async for entry in backend.entries(prefix)]) == expected

    async def test_keys_are_listed_in_the_order_of_their_bytes(self, backend: PersistenceBackend) -> None:
        """Keys come sorted by their UTF-8 bytes, not by a language and not by UTF-16."""
        if not await _listing_is_tested(backend):
            return
        ordered = ["", "A", "B", "a", "a/b", "ab", "é", "\uffee", "🦀", "🦀a"]
        await backend.batch_save(dict.fromkeys(reversed(ordered), b"value"))
        assert await backend.list_keys() == ordered

    async def test_an_empty_backend_lists_nothing(self, backend: PersistenceBackend) -> None:
        """A listing of nothing is empty, and no error."""
        if not await _listing_is_tested(backend):
            return
        assert await backend.list_keys() == []
        assert [entry async for entry in backend.entries("a")] == []
        assert await backend.key_count() == 0

    async def test_a_listing_during_writes_shows_what_stays(self, backend: PersistenceBackend) -> None:
        """While others save and delete, a listing shows each key that was there all along exactly once."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save({f"stays:{number:04}": b"value" for number in range(1500)})
        done = asyncio.Event()

        async def disturb() -> None:
            number = 0
            while not done.is_set():
                number += 1
                await backend.batch_save({f"comes:{number}": b"value", "stays:0700": b"again"})
                await backend.batch_delete([f"comes:{number - 1}"])
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(disturb())
            seen = [entry.key or "" async for entry in _yielding(backend.entries())]
            done.set()
        stayed = sorted(key for key in seen if key.startswith("stays:"))
        assert stayed == [f"stays:{number:04}" for number in range(1500)]

    async def test_a_listing_can_be_left_early(self, backend: PersistenceBackend) -> None:
        """A listing that is not read to its end holds nothing up."""
        if not await _listing_is_tested(backend):
            return
        await backend.batch_save({f"key:{number}": b"value" for number in range(50)})
        for _ in range(20):
            listing = backend.entries()
            await anext(aiter(listing))
            close = getattr(listing, "aclose", None)
            if close is not None:
                await close()
        await backend.save("key:1", b"after")
        await self._check(backend, "key:1", b"after")

    # Large values in chunks

    async def test_a_value_is_read_in_chunks(self, backend: PersistenceBackend) -> None:
        """A reader tells the size, gives the value in chunks and then nothing, and is None for a missing key."""
        await backend.save("key", _LARGE)
        async with backend.open_reader("key") as reader:
            assert reader is not None
            assert reader.size == len(_LARGE)
            chunks = [await reader.read(5)]
            while chunk := await reader.read(3 * _MEBIBYTE):
                chunks.append(chunk)
            assert await reader.read() == b""
        assert max(map(len, chunks)) <= 3 * _MEBIBYTE
        assert b"".join(chunks) == _LARGE
        async with backend.open_reader("key") as reader:
            assert reader is not None
            assert await reader.read() == _LARGE
        async with backend.open_reader("missing") as reader:
            assert reader is None

    async def test_a_value_is_written_in_chunks(self, backend: PersistenceBackend) -> None:
        """What a writer took appears, whole, when its block ends, and not before."""
        await backend.save("key", b"old")
        async with backend.open_writer("key") as writer:
            for start in range(0, len(_LARGE), 3 * _MEBIBYTE):
                await writer.write(memoryview(_LARGE)[start : start + 3 * _MEBIBYTE])
            assert await backend.load("key") == b"old"
        await self._check(backend, "key", _LARGE)
        async with backend.open_writer("empty"):
            pass
        await self._check(backend, "empty", b"")

    async def test_a_failing_writer_leaves_the_old_value(self, backend: PersistenceBackend) -> None:
        """An exception in a writer's block discards its chunks, and nothing of them is listed."""
        await backend.save("key", b"old")
        for key in ("key", "new"):
            with pytest.raises(ZeroDivisionError):
                await _write_and_fail(backend, key)
        await self._check(backend, "key", b"old")
        await self._check(backend, "new", None)
        if _lists(backend):
            assert [entry.key async for entry in backend.entries()] == ["key"]

    # Together and apart

    async def test_of_concurrent_writers_one_whole_value_wins(self, backend: PersistenceBackend) -> None:
        """Many tasks save one key at once: a reader sees one of their values, whole, at any time."""
        values = [bytes([number]) * 50_000 for number in range(16)]
        await backend.save("key", values[0])
        async with asyncio.TaskGroup() as tasks:
            for value in values:
                tasks.create_task(backend.save("key", value))
            for _ in range(20):
                assert await backend.load("key") in values
        await self._check(backend, "key", await backend.load("key"))
        assert await backend.load("key") in values

    async def test_a_cancelled_save_leaves_the_old_or_the_new(self, backend: PersistenceBackend) -> None:
        """Cancelled after any number of steps, a save leaves the old value or the new one, whole."""
        old, new = b"o" * 100_000, b"n" * 100_000
        await backend.save("key", old)
        for steps in range(20):
            task = asyncio.ensure_future(backend.save("key", new))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await backend.load("key") in (old, new)
        await backend.save("other", b"works")
        await self._check(backend, "other", b"works")

    def test_many_event_loops_one_after_the_other(self) -> None:
        """One backend works in a second and third event loop, though the first ended without closing it."""
        backend = asyncio.run(self._made())

        async def once(number: int) -> None:
            await backend.save(f"loop:{number}", b"%d" % number)
            assert await backend.batch_load([f"loop:{earlier}" for earlier in range(number + 1)]) == [
                b"%d" % earlier for earlier in range(number + 1)
            ]

        for number in range(4):
            asyncio.run(once(number))
        asyncio.run(backend.aclose())

    def test_many_threads_at_once(self) -> None:
        """Threads, each with an event loop of its own, share one backend."""
        backend = asyncio.run(self._made())
        failures: list[BaseException] = []

        async def work(thread: int) -> None:
            for number in range(10):
                await backend.save(f"{thread}:{number}", b"%d" % number)
                assert await backend.load(f"{thread}:{number}") == b"%d" % number

        def run(thread: int) -> None:
            try:
                asyncio.run(work(thread))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(backend.aclose())
        assert failures == []

    async def test_without_await_inside_a_running_loop(self, backend: PersistenceBackend) -> None:
        """``BlockingBackend`` gives the same answers inside a running event loop, as in a notebook."""
        await backend.save("key", b"value")
        blocking = BlockingBackend(backend)
        assert blocking.load("key") == b"value"
        blocking.batch_save({"a": b"A", "b": b""})
        assert blocking.batch_load(["a", "b", "c"]) == [b"A", b"", None]
        if _lists(backend):
            assert sorted(entry.key or "" for entry in blocking.entries()) == ["a", "b", "key"]
        blocking.close()
        await self._check(backend, "a", b"A")

    async def test_a_closed_backend_opens_anew(self, backend: PersistenceBackend) -> None:
        """Closing twice is no error, and a closed backend opens anew when it is used."""
        async with backend as entered:
            assert entered is backend
        await backend.aclose()
        await backend.save("key", b"value")
        assert await backend.load("key") == b"value"

    async def test_a_change_token_changes_with_the_content(self, backend: PersistenceBackend) -> None:
        """A token, where there is one, differs after every change, and stays while nothing changes."""
        await backend.save("key", b"value")
        before = await backend.change_token()
        if before is None:
            return
        changes: list[Callable[[], Awaitable[None]]] = [
            lambda: backend.save("other", b"value"),
            lambda: backend.save("other", b"value of another size"),
            lambda: backend.delete("other"),
            lambda: backend.batch_save({"a": b"A", "b": b"B"}),
            lambda: backend.batch_delete(["a", "b"]),
        ]
        for change in changes:
            await change()
            after = await backend.change_token()
            assert after != before
            before = after
        # A clock's tick or a server's own work may still move it, but not for ever.
        async with asyncio.timeout(_QUIET_SECONDS):
            while await backend.change_token() != await backend.change_token():  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.01)


def _lists(backend: PersistenceBackend) -> bool:
    return type(backend).entries is not PersistenceBackend.entries


async def _listing_is_tested(backend: PersistenceBackend) -> bool:
    """Tell whether the backend lists; where it does not, see that it says so."""
    if _lists(backend):
        return True
    with pytest.raises(ListingNotSupportedError):
        await backend.list_keys()
    with pytest.raises(ListingNotSupportedError):
        await backend.key_count()
    return False


async def _yielding(entries: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
    async for entry in entries:
        await asyncio.sleep(0)
        yield entry


async def _write_and_fail(backend: PersistenceBackend, key: str) -> None:
    async with backend.open_writer(key) as writer:
        await writer.write(b"half")
        raise ZeroDivisionError
