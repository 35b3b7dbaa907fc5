"""Contract: what every part of the suite stands on: an engine for each test, and a second route to what it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from persistkit.engine import Engine

__all__ = ["Contract", "run_threads"]


class Contract:
    """Makes the engine of each test, and checks what it holds."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        """Make the engine of one test, and close it."""
        engine = self._open()
        yield engine
        engine.close()

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


def run_threads(*works: Callable[[], object]) -> None:
    """Run each of ``works`` in a thread of its own, begun together; raise what the first of them raised."""
    together = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        together.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
