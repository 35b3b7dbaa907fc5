"""AwaitingContract: what a backend promises to those who await it, beyond what an engine promises."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from persistkit.backend import PersistenceBackend
from persistkit.background import BackendEngine
from persistkit.engine import Engine
from persistkit.testing.contract import Contract, run_threads

__all__ = ["AwaitingContract", "backend_of"]

_LARGE: Final = bytes(range(256)) * 4096


class AwaitingContract(Contract):
    """Tasks, cancellation, asynchronous streams, and one event loop after the other."""

    def test_gathered_operations_each_get_their_own(self, engine: Engine) -> None:
        """Many awaited operations at once, and batches, do what single ones do."""
        backend = backend_of(engine)
        items = {f"key:{number}": b"%d" % number for number in range(64)}

        async def gather() -> None:
            await asyncio.gather(*(backend.save(key, value) for key, value in items.items()))
            assert await asyncio.gather(*(backend.load(key) for key in items)) == list(items.values())
            assert await backend.batch_load([*items, "missing"]) == [*items.values(), None]
            await backend.batch_save({"key:0": b"again"})
            assert [await backend.exists(key) for key in ("key:0", "missing")] == [True, False]
            if self._lists(engine):
                assert await backend.list_keys() == sorted(items)
                assert sorted([entry.key or "" async for entry in backend.entries("key:1")]) == sorted(
                    key for key in items if key.startswith("key:1")
                )
                assert await backend.key_count() == len(items)
            await backend.batch_delete(list(items)[:32])
            await asyncio.gather(*(backend.delete(key) for key in list(items)[32:]))
            assert await backend.batch_load(items) == [None] * len(items)

        asyncio.run(gather())
        self._check(engine, "key:0", None)

    def test_streams_are_awaited(self, engine: Engine) -> None:
        """A value is written and read in chunks; an exception in a writer's block leaves what was stored."""
        backend = backend_of(engine)

        async def stream() -> None:
            async with backend.open_writer("key") as writer:
                for start in range(0, len(_LARGE), 70_000):
                    await writer.write(memoryview(_LARGE)[start : start + 70_000])
                assert await backend.load("key") is None
            async with backend.open_reader("key") as reader:
                assert reader is not None
                assert await reader.read(5) == _LARGE[:5]
                assert await reader.seek(-5, 2) == len(_LARGE) - 5
                assert await reader.read() == _LARGE[-5:]
            async with backend.open_reader("missing") as reader:
                assert reader is None
            with pytest.raises(ZeroDivisionError):
                await fail()

        async def fail() -> None:
            async with backend.open_writer("key") as writer:
                await writer.write(b"half")
                raise ZeroDivisionError

        asyncio.run(stream())
        self._check(engine, "key", _LARGE)

    def test_a_cancelled_save_leaves_the_old_or_the_new(self, engine: Engine) -> None:
        """Cancelled after any number of steps, a save leaves the old value or the new one, whole."""
        backend, old, new = backend_of(engine), b"o" * 100_000, b"n" * 100_000

        async def cancel() -> None:
            await backend.save("key", old)
            for steps in range(20):
                task = asyncio.ensure_future(backend.save("key", new))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert await backend.load("key") in (old, new)
            await backend.save("other", b"works")

        asyncio.run(cancel())
        self._check(engine, "other", b"works")

    def test_many_event_loops_one_after_the_other(self, engine: Engine) -> None:
        """One backend works in a second and third event loop, though the first ended without closing it."""
        backend = backend_of(engine)

        async def once(number: int) -> None:
            await backend.save(f"loop:{number}", b"%d" % number)
            keys = [f"loop:{earlier}" for earlier in range(number + 1)]
            assert await backend.batch_load(keys) == [b"%d" % earlier for earlier in range(number + 1)]

        for number in range(4):
            asyncio.run(once(number))

    def test_threads_with_event_loops_of_their_own(self, engine: Engine) -> None:
        """Threads, each with an event loop, share one backend."""
        backend = backend_of(engine)

        async def work(thread: int) -> None:
            for number in range(10):
                await backend.save(f"{thread}:{number}", b"%d" % number)
                assert await backend.load(f"{thread}:{number}") == b"%d" % number

        run_threads(*(lambda thread=thread: asyncio.run(work(thread)) for thread in range(4)))

    def test_a_closed_backend_opens_anew(self, engine: Engine) -> None:
        """Closing twice is no error, and a closed backend opens anew when it is used."""
        backend = backend_of(engine)

        async def close() -> None:
            async with backend as entered:
                assert entered is backend
            await backend.aclose()
            await backend.save("key", b"value")
            assert await backend.load("key") == b"value"

        asyncio.run(close())


def backend_of(engine: Engine) -> PersistenceBackend:
    """Return the backend behind the engine of a test."""
    assert isinstance(engine, BackendEngine)
    return engine.backend
