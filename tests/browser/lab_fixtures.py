"""A JupyterLab, a Chromium and a notebook for the tests of one module; all end with it, so no event loop stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from lab import Notebook, Server, chromium, write_notebook
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab; in CI a missing Chromium fails."""
    if shutil.which("chromium") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("chromium is not installed: apt-get install chromium")
    started = Server(tmp_path_factory.mktemp("lab"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def chrome(server: Server) -> Iterator[Browser]:
    """The Chromium that is installed; nothing is downloaded."""
    assert server.url
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def notebook(server: Server, chrome: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """A notebook of the module's ``CELLS``, the first one run; each test runs the cells it is about."""
    write_notebook(server.root / "all.ipynb", request.module.CELLS)
    opened = Notebook(chrome, server, "all.ipynb")
    opened.run(0)
    yield opened
    assert opened.errors == []
    assert opened.dialogs == []
    opened.close()
