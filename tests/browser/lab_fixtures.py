"""A JupyterLab and a Chromium for all tests in one, and a notebook for those of one module.

Playwright's event loop stays until the end: these tests run apart from those that have a loop of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from lab import Notebook, Server, chromium, write_notebook
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab; in CI a missing Chromium fails."""
    if shutil.which("chromium") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("chromium is not installed: apt-get install chromium")
    started = Server(tmp_path_factory.mktemp("lab"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def chrome(server: Server) -> Iterator[Browser]:
    """The Chromium that is installed; nothing is downloaded."""
    assert server.url
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def notebook(server: Server, chrome: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """A notebook of the module's ``CELLS``, the first one run; each test runs the cells it is about."""
    name = f"{request.module.__name__}.ipynb"
    write_notebook(server.root / name, request.module.CELLS)
    opened = Notebook(chrome, server, name)
    opened.run(0)
    yield opened
    assert opened.errors == []
    assert opened.dialogs == []
    opened.close()
