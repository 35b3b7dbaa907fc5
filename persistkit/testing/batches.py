"""BatchesContract: many keys at once."""

from __future__ import annotations

import pytest

from persistkit.backend import PersistenceBackend
from persistkit.errors import BatchError, PersistenceError
from persistkit.testing.contract import Contract, lists

__all__ = ["BatchesContract"]


def __dir__() -> list[str]:
    return __all__


class BatchesContract(Contract):
    """A batch does what single operations do, and names what failed."""

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
        if lists(backend):
            assert await backend.list_keys() == sorted(items)
            assert await backend.list_keys("run:3:") == sorted(key for key in items if key.startswith("run:3:"))
            assert await backend.key_count() == len(items)
        await backend.batch_delete(items)
        some = list(items)[::100]
        assert await backend.batch_load(some) == [None] * len(some)
        if lists(backend):
            assert await backend.key_count() == 0
