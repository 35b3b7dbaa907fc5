"""EngineContract and BackendContract: the tests every engine and every backend passes, those shipped here and yours."""

from __future__ import annotations

from persistkit.engine import Engine
from persistkit.testing.batches import BatchesContract
from persistkit.testing.listings import ListingsContract
from persistkit.testing.sharing import SharingContract
from persistkit.testing.streams import StreamsContract
from persistkit.testing.values import ValuesContract

__all__ = ["EngineContract"]


class EngineContract(ValuesContract, BatchesContract, ListingsContract, StreamsContract, SharingContract):
    """The contract of ``Engine`` as tests, for an engine of your own.

    Subclass it in a test module, under a name that begins with ``Test``, and say how to make an empty engine; pytest
    runs the rest. Give ``read_raw`` where there is a second way to what was stored (the file, the row): then each
    value saved is also read back by it. What a test needs (a folder, a server) comes by a fixture of the subclass
    with ``autouse=True``. For full explanations of failures, write
    ``pytest.register_assert_rewrite("persistkit.testing")`` in ``conftest.py``.

    Attributes:
        tries_the_limit: set it to True where ``max_value_bytes`` states a limit of at most 8 GiB: then a value above
            it is tried too. A test says when it ought to be set.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> class TestMemory(EngineContract):
        ...     def make_engine(self) -> Engine:
        ...         return MemoryEngine()
    """

    def make_engine(self) -> Engine:
        """Return an empty engine; override it."""
        raise NotImplementedError(f"{type(self).__name__} must override make_engine() to return an empty engine")

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Return the value of ``key`` by a route that is not ``load``, None when there is none; override it."""
        return engine.load(key)

    def _open(self) -> Engine:
        return self.make_engine()

    def _stored(self, engine: Engine, key: str) -> bytes | None:
        return self.read_raw(engine, key)
