"""Backends: engines awaited, and backends of three methods."""

from __future__ import annotations

import asyncio
import errno
import pickle
from pathlib import Path

import pytest
from dict_engine import DictEngine

from persistkit import (
    EngineBackend,
    FilePersistenceBackend,
    MemoryPersistenceBackend,
    PersistenceBackend,
    open_backend,
)
from persistkit.arguments import BytesLike
from persistkit.errors import BatchError, InvalidKeyError, ReadOnlyError, StorageError, ValueTooLargeError
from persistkit.testing import BackendContract


class ThreeMethods(PersistenceBackend):
    """The least a backend can be: no listing, and nothing checked."""

    max_value_bytes = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep a copy of the value; some keys fail."""
        if key.startswith("silent"):
            raise StorageError("no answer", errno=errno.ETIMEDOUT)
        if key.startswith("cancelled"):
            raise asyncio.CancelledError
        self.values[key] = bytes(value)

    async def load(self, key: str) -> bytes | None:
        """Return the value or None."""
        return self.values.get(key)

    async def delete(self, key: str) -> None:
        """Forget the value."""
        self.values.pop(key, None)


class TestMemoryBackend(BackendContract):
    """An engine that does not block is called in the event loop itself."""

    def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return MemoryPersistenceBackend()


class TestFileBackend(BackendContract):
    """An engine that blocks is called in worker threads."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def make_backend(self) -> PersistenceBackend:
        """Make an empty directory."""
        return FilePersistenceBackend(self.folder, create=True, fsync=False)


class TestThreeMethods(BackendContract):
    """A backend of save, load and delete, which cannot list, and checks nothing."""

    tries_the_limit = True

    async def make_backend(self) -> PersistenceBackend:
        """Return an empty backend."""
        return ThreeMethods()

    def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Look into the dict."""
        assert isinstance(backend, ThreeMethods)
        return backend.values.get(key)


class BrokenEngine(DictEngine):
    """Keys that start with "silent" get no answer, those that start with "bad" are refused; all are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[str] = []

    def _save(self, key: str, value: BytesLike) -> None:
        self.tried.append(key)
        if key.startswith("silent"):
            raise StorageError("no answer", errno=errno.ETIMEDOUT)
        if key.startswith("bad"):
            raise StorageError("refused")
        super()._save(key, value)


async def test_a_batch_attempts_every_item_in_chunks() -> None:
    """Failures of all chunks come as one error; nothing is stored when one argument is wrong."""
    engine = BrokenEngine()
    backend = EngineBackend(engine)
    items = {f"{'bad' if number % 600 == 0 else 'good'}:{number}": b"" for number in range(1_300)}
    with pytest.raises(BatchError, match="batch_save: 3 of 1,300 keys failed") as caught:
        await backend.batch_save(items)
    assert list(caught.value.failures) == ["bad:0", "bad:600", "bad:1200"]
    assert engine.tried == list(items)
    engine.tried.clear()
    with pytest.raises(InvalidKeyError):
        await backend.batch_save({**items, "\0": b""})
    engine.max_value_bytes = 5
    with pytest.raises(ValueTooLargeError):
        await backend.batch_save({**items, "large": b"123456"})
    assert engine.tried == []


async def test_a_batch_stops_when_the_storage_stops_answering() -> None:
    """What is left fails without being tried, in later chunks too, on engines and on three methods alike."""
    engine = BrokenEngine()
    items = {f"{'silent' if number == 5 else 'good'}:{number}": b"" for number in range(1_300)}
    with pytest.raises(BatchError) as caught:
        await EngineBackend(engine).batch_save(items)
    assert engine.tried == list(items)[:6]
    assert list(caught.value.failures) == list(items)[5:]
    assert "not tried, because of: no answer" in str(caught.value.failures["good:1299"])
    backend = ThreeMethods()
    with pytest.raises(BatchError) as caught:
        await backend.batch_save(items)
    assert set(backend.values) | set(caught.value.failures) == set(items)
    assert "not tried" in str(caught.value.failures["good:1299"])


async def test_work_a_backend_cancels_itself_is_a_failure() -> None:
    """A key whose work the backend cancelled is reported, and every other one is carried out."""
    backend = ThreeMethods()
    items = dict.fromkeys([f"cancelled {n}" for n in range(64)] + [f"good {n}" for n in range(100)], b"")
    with pytest.raises(BatchError, match="64 of 164"):
        await backend.batch_save(items)
    assert len(backend.values) == 100


async def test_a_directory_is_known_by_its_backend(tmp_path: Path) -> None:
    """``base_dir``, ``fsync``, ``path_for``, ``check`` and ``load_filename`` are those of the directory's engine."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    assert (backend.base_dir, backend.fsync) == (tmp_path, False)
    await backend.save("key", b"value")
    path = backend.path_for("key")
    assert path.read_bytes() == b"value"
    assert await backend.load_filename(path.name) == b"value"
    (tmp_path / "other").write_bytes(b"")
    assert [finding.filename for finding in await backend.check()] == ["other"]
    assert repr(backend) == f"FilePersistenceBackend({str(tmp_path)!r}, fsync=False)"


async def test_a_pickled_backend_is_opened_anew(tmp_path: Path) -> None:
    """A copy for another process works on the same directory with threads of its own."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    await backend.save("key", b"value")
    copy = pickle.loads(pickle.dumps(backend))  # noqa: S301 - our own
    assert (type(copy), copy.fsync) == (FilePersistenceBackend, False)
    assert await copy.load("key") == b"value"


async def test_an_address_is_opened_for_await(tmp_path: Path) -> None:
    """``open_backend`` takes what ``open_engine`` takes."""
    async with open_backend(tmp_path / "new", create=True, fsync=False) as backend:
        await backend.save("key", b"value")
    async with open_backend(tmp_path / "new", read_only=True) as reading:
        assert await reading.load("key") == b"value"
        with pytest.raises(ReadOnlyError):
            await reading.save("key", b"other")
    with pytest.raises(StorageError, match="create=True"):
        open_backend(tmp_path / "nowhere")
