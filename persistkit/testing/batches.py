"""BatchesContract: many keys at once."""

from __future__ import annotations

import pytest

from persistkit.engine import Engine
from persistkit.errors import BatchError, PersistenceError
from persistkit.testing.contract import Contract

__all__ = ["BatchesContract"]


class BatchesContract(Contract):
    """A batch does what single operations do, and names what failed."""

    def test_batches_do_what_single_operations_do(self, engine: Engine) -> None:
        """A batch saves all, loads in the asked order with None for the missing, and deletes what is there."""
        engine.batch_save([("a", b"lost"), ("b", b"B"), ("", b"empty"), ("a", b"A")])
        assert engine.batch_load(["b", "missing", "a", "b", ""]) == [b"B", None, b"A", b"B", b"empty"]
        self._check(engine, "a", b"A")
        engine.batch_delete(iter(["b", "missing", "b"]))
        assert engine.batch_load(["a", "b"]) == [b"A", None]

    def test_empty_batches_do_nothing(self, engine: Engine) -> None:
        """A batch of nothing is no error."""
        engine.batch_save({})
        assert engine.batch_load([]) == []
        engine.batch_delete([])

    def test_one_text_is_not_a_batch(self, engine: Engine) -> None:
        """A text given for a batch is refused instead of being taken letter by letter."""
        engine.save("a", b"kept")
        for call in (engine.batch_load, engine.batch_delete):
            with pytest.raises(TypeError):
                call("a")
        self._check(engine, "a", b"kept")

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
        if self._lists(engine):
            assert engine.list_keys() == sorted(items)
            assert engine.list_keys("run:3:") == sorted(key for key in items if key.startswith("run:3:"))
            assert engine.key_count() == len(items)
        engine.batch_delete(items)
        some = list(items)[::100]
        assert engine.batch_load(some) == [None] * len(some)
        if self._lists(engine):
            assert engine.key_count() == 0
