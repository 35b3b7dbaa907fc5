"""MemoryEngine: the contract, and what is true of values in memory alone."""

from __future__ import annotations

from dict_engine import DictEngine

from persistkit.engine import Engine
from persistkit.engines.memory import MemoryEngine
from persistkit.testing import EngineContract


class Limited(DictEngine):
    """Four methods over a dict, what the interface asks at least, and a limit."""

    max_value_bytes = 64 * 1024 * 1024


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
        return Limited()

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Look into the dict."""
        assert isinstance(engine, Limited)
        return engine.stored.get(key)
