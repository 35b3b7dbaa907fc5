"""MemoryEngine: the contract, and what is true of values in memory alone."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.engines.memory import MemoryEngine
from persistkit.entry import Entry
from persistkit.testing import EngineContract


class DictEngine(Engine):
    """Four methods over a dict: what the interface asks at least."""

    max_value_bytes = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def _save(self, key: str, value: BytesLike) -> None:
        self.values[key] = bytes(value)

    def _load(self, key: str) -> bytes | None:
        return self.values.get(key)

    def _delete(self, key: str) -> None:
        self.values.pop(key, None)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for key, value in self.values.copy().items():
            if key.startswith(prefix):
                yield Entry(key, len(value), None)


class TestMemory(EngineContract):
    """MemoryEngine."""

    def make_engine(self) -> Engine:
        """Return an empty engine."""
        return MemoryEngine()


class TestFourMethods(EngineContract):
    """An engine of four methods, with every default."""

    tries_the_limit = True

    def make_engine(self) -> Engine:
        """Return an empty engine."""
        return DictEngine()

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Look into the dict."""
        assert isinstance(engine, DictEngine)
        return engine.values.get(key)


def test_values_in_memory_are_never_pickled() -> None:
    """Pickling says what to open instead: another process would see nothing of this memory."""
    with pytest.raises(TypeError, match="create=True"):
        pickle.dumps(MemoryEngine())
