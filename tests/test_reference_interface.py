"""Programs that use nothing but the Rust reference's interface: they ran before the house was rebuilt, and run now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend
from persistkit.errors import BatchError, ListingNotSupportedError, StorageError


class ThreeMethods(PersistenceBackend):
    """The least a backend can be."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def save(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Keep the value; one key is refused."""
        await asyncio.sleep(0)
        if key == "refused":
            raise StorageError("refused")
        self.values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Give the value."""
        await asyncio.sleep(0)
        return self.values.get(key)

    async def delete(self, key: str) -> None:
        """Drop the value."""
        self.values.pop(key, None)


class Prefixed(FilePersistenceBackend):
    """A ready backend with a method of its own."""

    async def save_step(self, session: str, number: int, value: bytes) -> None:
        """Save one step of a session."""
        await self.save(f"loop:{session}:step:{number}", value)


async def checkpoint(backend: PersistenceBackend) -> None:
    """Do what an agent runtime does: steps while it runs, the session at its end, all of it read again."""
    steps = {f"loop:7f3c:step:{number}": b"step %d" % number for number in range(1, 30)}
    for key, value in steps.items():
        await backend.save(key, value)
    await backend.save("session:7f3c", b"first")
    await backend.save("session:7f3c", bytearray(b"session"))
    await backend.batch_save([("a/b", b"slash"), ("a_b", b"underscore"), ("", b"empty key"), ("a/b", b"last")])
    assert await backend.load("session:7f3c") == b"session"
    assert await backend.load("missing") is None
    assert await backend.batch_load(["a_b", "missing", "a/b", "a_b", ""]) == [
        b"underscore",
        None,
        b"last",
        b"underscore",
        b"empty key",
    ]
    assert await backend.batch_load(list(steps)) == list(steps.values())
    assert await backend.exists("a/b")
    await backend.delete("a/b")
    await backend.delete("a/b")
    assert not await backend.exists("a/b")
    gathered = await asyncio.gather(*(backend.load(key) for key in steps))
    assert gathered == list(steps.values())
    await asyncio.gather(*(backend.save(f"gathered:{number}", b"%d" % number) for number in range(100)))
    assert await asyncio.gather(*(backend.exists(f"gathered:{number}") for number in range(101))) == [True] * 100 + [
        False
    ]


async def list_everything(backend: PersistenceBackend) -> None:
    """List what ``checkpoint`` left."""
    steps = sorted(f"loop:7f3c:step:{number}" for number in range(1, 30))
    assert await backend.list_keys("loop:7f3c:step:") == steps
    assert await backend.list_keys("session") == ["session:7f3c"]
    assert (await backend.list_keys())[:2] == ["", "a_b"]
    assert await backend.key_count() == len(await backend.list_keys()) == 29 + 1 + 2 + 100


@pytest.mark.parametrize("make", [MemoryPersistenceBackend, ThreeMethods])
def test_a_program_runs_on_any_backend(make: Callable[[], PersistenceBackend]) -> None:
    """Save, load, delete, both batches and exists; one object in one event loop after the other."""
    backend = make()
    asyncio.run(checkpoint(backend))
    asyncio.run(checkpoint(backend))
    if isinstance(backend, MemoryPersistenceBackend):
        asyncio.run(list_everything(backend))


@pytest.mark.parametrize("fsync", [True, False])
def test_a_program_runs_on_a_directory(tmp_path: Path, fsync: bool) -> None:
    """The same on files, and ``base_dir`` is the directory they are in; a second object sees them."""
    backend = Prefixed(tmp_path / "state", create=True, fsync=fsync)
    assert backend.base_dir == tmp_path / "state"
    asyncio.run(checkpoint(backend))
    asyncio.run(backend.save_step("7f3c", 1, b"step 1"))
    asyncio.run(list_everything(FilePersistenceBackend(str(backend.base_dir))))
    values = {path.read_bytes() for path in backend.base_dir.glob("*.bin")}
    assert {b"session", b"underscore", b"empty key", b"step 29"} <= values


def test_a_program_sees_what_three_methods_cannot() -> None:
    """A batch stores all but the refused key and names it; a listing says that there is none."""
    backend = ThreeMethods()
    with pytest.raises(BatchError) as caught:
        asyncio.run(backend.batch_save({"a": b"1", "refused": b"2", "b": b"3"}))
    assert list(caught.value.failures) == ["refused"]
    assert set(backend.values) == {"a", "b"}
    for listing in (backend.list_keys, backend.key_count):
        with pytest.raises(ListingNotSupportedError):
            asyncio.run(listing())


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """A backend over a directory that is not there is an error that names it."""
    with pytest.raises(StorageError, match="nowhere"):
        FilePersistenceBackend(tmp_path / "nowhere")
