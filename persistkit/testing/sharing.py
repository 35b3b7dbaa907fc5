"""SharingContract: one backend, many tasks, threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from persistkit.backend import PersistenceBackend
from persistkit.blocking import BlockingBackend
from persistkit.testing.contract import Contract, lists

__all__ = ["SharingContract"]


def __dir__() -> list[str]:
    return __all__


_QUIET_SECONDS: Final = 30


class SharingContract(Contract):
    """Whoever uses a backend at the same time, or after another event loop, finds whole values."""

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
        if lists(backend):
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
            # A backend that cannot tell says so each time.
            assert (after is None) if before is None else (after is not None and after != before)
            before = after
        # A clock's tick or a server's own work may still move it, but not for ever.
        async with asyncio.timeout(_QUIET_SECONDS):
            while await backend.change_token() != await backend.change_token():  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.01)
