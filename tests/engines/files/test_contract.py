"""The contract on a directory of files, with and without fsync."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit.engine import Engine
from persistkit.engines.files import FileEngine
from persistkit.testing import EngineContract


class TestFiles(EngineContract):
    """FileEngine as it is by default, read back as files."""

    fsync = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "state"

    def make_engine(self) -> Engine:
        """Make an empty directory."""
        return FileEngine(self.folder, create=True, fsync=self.fsync)

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Read the file; one that another key owns is nobody else's value."""
        assert isinstance(engine, FileEngine)
        path = engine.path_for(key)
        owner = path.with_suffix(".key")
        if not path.exists() or (owner.exists() and owner.read_text() != key):
            return None
        return path.read_bytes()


class TestFilesWithoutSync(TestFiles):
    """The same directory, written as the reference writes it."""

    fsync = False
