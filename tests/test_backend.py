"""Backends: engines awaited, and backends of three methods."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend
from persistkit.arguments import BytesLike
from persistkit.testing import BackendContract


class ThreeMethods(PersistenceBackend):
    """The least a backend can be: no listing, and nothing checked."""

    max_value_bytes = 64 * 1024 * 1024

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def save(self, key: str, value: BytesLike) -> None:
        """Keep a copy of the value."""
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

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Read the file."""
        assert isinstance(backend, FilePersistenceBackend)
        path = backend.path_for(key)
        owner = path.with_suffix(".key")
        if not path.exists() or (owner.exists() and owner.read_text() != key):
            return None
        return path.read_bytes()


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
