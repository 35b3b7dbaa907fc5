"""The contract of every engine, put to the one of notebook 06."""

import pytest
from letters import LettersEngine

from persistkit.testing import EngineContract


class TestLetters(EngineContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def make_engine(self):
        return LettersEngine(self.folder)

    def read_raw(self, engine, key):
        path = engine.path_for(key)
        return path.read_bytes() if path.exists() else None
