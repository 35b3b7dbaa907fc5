"""SharingContract: one engine, many threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import pytest

from persistkit.engine import Engine
from persistkit.testing.values import ValuesContract

__all__ = ["SharingContract", "run_threads"]

_QUIET_SECONDS: Final = 30
_THREADS: Final = 4


class SharingContract(ValuesContract):
    """Whoever uses an engine at the same time finds whole values, and nothing is lost."""

    def test_a_value_is_never_torn(self, engine: Engine) -> None:
        """Threads save large values of several sizes under one key: readers see one of them, whole, and no error."""
        values = [bytes([number]) * (200_000 + 50_000 * number) for number in range(_THREADS)]
        engine.save("key", values[0])
        done = threading.Event()

        def write(value: bytes) -> None:
            try:
                for _ in range(25):
                    engine.save("key", value)
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                assert engine.load("key") in values, "a reader saw a torn value"

        run_threads(*(partial(write, value) for value in values), read, read)
        last = engine.load("key")
        assert last in values
        self._check(engine, "key", last)

    def test_add_keeps_what_is_there(self, engine: Engine) -> None:
        """``add`` stores under a free key only, and tells whether it did."""
        for value in (b"first", b""):
            assert engine.add("key", value)
            assert not engine.add("key", b"second")
            self._check(engine, "key", value)
            engine.delete("key")

    def test_replace_compares_first(self, engine: Engine) -> None:
        """``replace`` stores where the expected bytes are, and nowhere else."""
        assert not engine.replace("key", b"new", b"")
        self._check(engine, "key", None)
        engine.save("key", b"old")
        for expected in (b"", b"ol", b"older", b"OLD"):
            assert not engine.replace("key", b"new", expected)
        self._check(engine, "key", b"old")
        for value, expected in ((b"", b"old"), (b"last", b"")):
            assert engine.replace("key", value, bytearray(expected))
            self._check(engine, "key", value)

    def test_of_racing_adds_exactly_one_wins(self, engine: Engine) -> None:
        """Threads add the same keys at once: of each key one is told that it stored, and its value is there."""
        won: dict[str, list[bytes]] = {f"key:{number}": [] for number in range(8)}

        def race(value: bytes) -> None:
            for key, winners in won.items():
                if engine.add(key, value):
                    winners.append(value)

        run_threads(*(partial(race, b"%d" % thread) for thread in range(_THREADS)))
        assert {key: len(winners) for key, winners in won.items()} == dict.fromkeys(won, 1)
        for key, winners in won.items():
            self._check(engine, key, winners[0])

    def test_a_counter_by_replace_is_exact(self, engine: Engine) -> None:
        """Threads count by ``replace`` until each has counted its share: nothing is lost."""
        engine.save("counter", b"0")

        def count() -> None:
            counted = 0
            while counted < 10:
                present = engine.load("counter")
                assert present is not None
                counted += engine.replace("counter", b"%d" % (int(present) + 1), present)

        run_threads(*[count] * _THREADS)
        self._check(engine, "counter", b"%d" % (10 * _THREADS))

    def test_a_lock_lets_one_in_at_a_time(self, engine: Engine) -> None:
        """Threads that load, add one and save under a lock lose nothing, and nothing is left of the lock."""
        engine.save("counter", b"0")

        def count() -> None:
            for _ in range(3):
                with engine.lock("counter"):
                    engine.save("counter", b"%d" % (int(engine.load("counter") or b"") + 1))

        run_threads(*[count] * _THREADS)
        self._check(engine, "counter", b"%d" % (3 * _THREADS))
        assert not engine.exists("counter.lock")

    def test_a_lock_is_of_one_key_and_ends_with_its_block(self, engine: Engine) -> None:
        """Another thread waits for it as long as it is told, and for that of another key not at all."""

        def ask() -> None:
            with pytest.raises(TimeoutError, match="'a'"), engine.lock("a", timeout_seconds=0.01):
                pass
            with engine.lock("b", timeout_seconds=0), engine.lock("x" * 1024, timeout_seconds=0):
                engine.save("a", b"value")
                raise KeyError("b")

        with engine.lock("a"), pytest.raises(KeyError):
            run_threads(ask)
        with engine.lock("a", timeout_seconds=0), engine.lock("b", timeout_seconds=0):
            pass
        self._check(engine, "a", b"value")

    def test_a_closed_engine_opens_anew(self, engine: Engine) -> None:
        """Closing twice is no error, and a closed engine opens anew when it is used."""
        with engine as entered:
            assert entered is engine
        engine.close()
        engine.save("key", b"value")
        assert engine.load("key") == b"value"

    def test_a_change_token_changes_with_the_content(self, engine: Engine) -> None:
        """A token, where there is one, differs after every change, and stays while nothing changes."""
        changes: list[Callable[[], object]] = [
            lambda: engine.save("other", b"value"),
            lambda: engine.save("other", b"value of another size"),
            lambda: engine.delete("other"),
            lambda: engine.add("other", b"value"),
            lambda: engine.replace("other", b"VALUE", b"value"),
            lambda: engine.batch_save({"a": b"A", "b": b"B"}),
            lambda: engine.batch_delete(["a", "b"]),
        ]
        before = engine.change_token()
        for change in changes:
            change()
            after = engine.change_token()
            # An engine that cannot tell says so each time.
            assert (after is None) if before is None else (after is not None and after != before)
            before = after
        # A clock's tick or a server's own work may still move it, but not for ever.
        deadline = time.monotonic() + _QUIET_SECONDS
        while engine.change_token() != engine.change_token():
            assert time.monotonic() < deadline, "the token never rests"


def run_threads(*works: Callable[[], object]) -> None:
    """Run each of ``works`` in a thread of its own, begun together; raise what one of them raised."""
    together = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        together.wait()
        work()

    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(run, work) for work in works]:
            done.result()
