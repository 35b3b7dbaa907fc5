"""AwaitingContract: what a backend promises to those who await it, beyond what an engine promises."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import pytest

from persistkit.backend import PersistenceBackend
from persistkit.background import BackendEngine
from persistkit.engine import Engine
from persistkit.testing.sharing import run_threads
from persistkit.testing.values import ValuesContract

__all__ = ["AwaitingContract", "backend_of"]

_LARGE: Final = bytes(range(256)) * 4096


class AwaitingContract(ValuesContract):
    """Tasks, cancellation, asynchronous streams, and one event loop after the other."""

    def test_gathered_operations_each_get_their_own(self, engine: Engine) -> None:
        """Many awaited operations at once, and batches, do what single ones do."""
        backend = backend_of(engine)
        items = {f"key:{number}": b"%d" % number for number in range(64)}

        async def gather() -> None:
            await asyncio.gather(*(backend.save(key, value) for key, value in items.items()))
            assert await asyncio.gather(*(backend.load(key) for key in items)) == list(items.values())
            assert await backend.batch_load([*items, "missing"]) == [*items.values(), None]
            await backend.batch_save({"more": b"more"})
            assert [await backend.exists(key) for key in ("more", "missing")] == [True, False]
            await backend.batch_delete(["more"])
            if self._lists(engine):
                assert await backend.list_keys() == sorted(items)
                assert sorted([entry.key or "" async for entry in backend.entries("key:")]) == sorted(items)
                assert await backend.key_count() == len(items)
            await asyncio.gather(*(backend.delete(key) for key in items))
            assert await backend.batch_load(items) == [None] * len(items)

        asyncio.run(gather())

    def test_streams_are_awaited(self, engine: Engine) -> None:
        """A value is written and read in chunks; an exception in a writer's block leaves what was stored."""
        backend = backend_of(engine)

        async def fail() -> None:
            async with backend.open_writer("key") as writer:
                await writer.write(b"half")
                raise ZeroDivisionError

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

    def test_event_loops_one_after_the_other_and_at_once(self, engine: Engine) -> None:
        """One backend works in loop after loop, closed or not, and in several threads with a loop each."""
        backend = backend_of(engine)

        async def use(loop: int) -> None:
            for number in range(10):
                await backend.save(f"{loop}:{number}", b"%d" % number)
                assert await backend.load(f"{loop}:{number}") == b"%d" % number
            assert await backend.batch_load(["first", f"{loop}:9"]) == [b"first", b"9"]

        async def close() -> None:
            async with backend as entered:
                assert entered is backend
            await backend.aclose()

        asyncio.run(backend.save("first", b"first"))
        asyncio.run(use(1))
        asyncio.run(close())
        asyncio.run(use(2))
        run_threads(*(partial(asyncio.run, use(loop)) for loop in range(3, 7)))
        self._check(engine, "6:9", b"9")


def backend_of(engine: Engine) -> PersistenceBackend:
    """Return the backend behind the engine of a test."""
    assert isinstance(engine, BackendEngine)
    return engine.backend
