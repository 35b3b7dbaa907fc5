"""The twelve tests of the Rust crate's persistence module, by behaviour, on every backend kept on one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend


@pytest.fixture(params=["memory", "file", "file without fsync"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> PersistenceBackend:
    """One empty backend of each kind."""
    if request.param == "memory":
        return MemoryPersistenceBackend()
    return FilePersistenceBackend(tmp_path, fsync=request.param == "file")


async def test_save_and_load(backend: PersistenceBackend) -> None:
    """What was saved is loaded."""
    await backend.save("key", b"value")
    assert await backend.load("key") == b"value"


async def test_load_missing_gives_none(backend: PersistenceBackend) -> None:
    """A key that was never saved has no value."""
    assert await backend.load("missing") is None


async def test_delete_removes(backend: PersistenceBackend) -> None:
    """A deleted key has no value."""
    await backend.save("key", b"value")
    await backend.delete("key")
    assert await backend.load("key") is None
    assert not await backend.exists("key")


async def test_delete_of_a_missing_key_is_no_error(backend: PersistenceBackend) -> None:
    """Deleting what is not there does nothing."""
    await backend.delete("missing")
    assert await backend.key_count() == 0


async def test_keys_with_separators_stay_inside_the_directory(tmp_path: Path) -> None:
    """A key that looks like a path makes one file, directly in the directory."""
    inside = tmp_path / "inside"
    backend = FilePersistenceBackend(inside, create=True)
    await backend.save("../../etc/passwd", b"mine")
    assert await backend.load("../../etc/passwd") == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.read_bytes() for path in inside.iterdir()] == [b"mine"]


async def test_sanitized_keys_do_not_collide(backend: PersistenceBackend) -> None:
    """``a/b`` and ``a_b`` are two keys."""
    await backend.save("a/b", b"slash")
    await backend.save("a_b", b"underscore")
    assert await backend.batch_load(["a/b", "a_b"]) == [b"slash", b"underscore"]


async def test_batch_save_and_batch_load(backend: PersistenceBackend) -> None:
    """Everything in a batch is stored."""
    await backend.batch_save({"a": b"1", "b": b"2"})
    assert await backend.load("a") == b"1"
    assert await backend.load("b") == b"2"


async def test_batch_load_keeps_the_order_and_tells_the_missing(backend: PersistenceBackend) -> None:
    """Values come in the order of the keys, None for a missing one, and again for a repeated one."""
    await backend.batch_save([("a", b"1"), ("b", b"2"), ("a", b"3")])
    assert await backend.batch_load(["b", "missing", "a", "b"]) == [b"2", None, b"3", b"2"]


async def test_list_keys_gives_true_keys(backend: PersistenceBackend) -> None:
    """Listings hold the keys that were saved, sorted, by literal prefix."""
    await backend.batch_save(dict.fromkeys(["session:1", "session_1", "run/2", "", "A_%"], b""))
    assert await backend.list_keys() == ["", "A_%", "run/2", "session:1", "session_1"]
    assert await backend.list_keys("session") == ["session:1", "session_1"]
    assert await backend.list_keys("A_") == ["A_%"]


async def test_use_through_the_abstract_type(backend: PersistenceBackend) -> None:
    """Code that knows the interface alone works on every backend."""
    opened: PersistenceBackend = backend
    async with opened as entered:
        await entered.save("key", memoryview(b"value"))
        assert await entered.exists("key")
        assert [entry.key async for entry in entered.entries()] == ["key"]


async def test_key_count_of_nothing_is_zero(backend: PersistenceBackend) -> None:
    """An empty backend counts nothing."""
    assert await backend.key_count() == 0


async def test_key_count_follows_saves_and_deletes(backend: PersistenceBackend) -> None:
    """The count is that of the stored values."""
    await backend.batch_save({"a": b"1", "b": b"2", "c": b"3"})
    assert await backend.key_count() == 3
    await backend.batch_delete(["a", "missing", "a"])
    assert await backend.key_count() == 2
