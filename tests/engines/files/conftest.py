"""What the tests of files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine


@pytest.fixture
def engine(tmp_path: Path) -> FileEngine:
    """An empty directory, whose files are not synced."""
    return FileEngine(tmp_path, fsync=False)
