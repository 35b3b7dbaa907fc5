"""The contract on a directory of files, with and without fsync."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend, PersistenceBackend
from persistkit.testing import BackendContract


class TestFile(BackendContract):
    """FilePersistenceBackend as it is by default, read back as files."""

    fsync = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def make_backend(self) -> PersistenceBackend:
        """Make an empty directory."""
        return FilePersistenceBackend(self.folder, create=True, fsync=self.fsync)

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Read the file; one that another key claims is nobody else's value."""
        assert isinstance(backend, FilePersistenceBackend)
        path = backend.path_for(key)
        claim = path.with_suffix(".key")
        if not path.exists() or (claim.exists() and claim.read_text() != key):
            return None
        return path.read_bytes()


class TestFileWithoutSync(TestFile):
    """The same directory, written as the reference writes it."""

    fsync = False
