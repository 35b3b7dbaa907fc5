"""The browser where no kernel knows it, in saved notebooks, and in Notebook 7."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from lab import SETUP, Notebook, Server, browser_in, chromium, row_of, rows, serving, write_notebook
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One JupyterLab for all tests here."""
    yield from serving(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def chrome(server: Server) -> Iterator[Browser]:
    """One Chromium for all tests here."""
    assert server.url
    with chromium() as browser:
        yield browser


def test_without_a_kernel_a_table_is_there(chrome: Browser, tmp_path: Path) -> None:
    """An executed notebook rendered to HTML, no kernel and no script, shows the first keys."""
    path = tmp_path / "saved.ipynb"
    write_notebook(path, [SETUP, "browser_of({'<b>run</b>:1': b'12'})"])
    executed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(executed, timeout=150, store_widget_state=False, kernel_name="python3").execute()
    html, _ = HTMLExporter().from_notebook_node(executed)  # type: ignore[no-untyped-call]
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(html, wait_until="domcontentloaded")
    expect(page.locator("td code")).to_have_text("<b>run</b>:1")
    context.close()


def test_a_notebook_of_somebody_else_shows_a_table(server: Server, chrome: Browser) -> None:
    """An executed notebook that comes from elsewhere shows the first keys in JupyterLab before it is run."""
    path = server.root / "elsewhere.ipynb"
    write_notebook(path, [SETUP, "browser_of({'run:1': b'12'})"])
    executed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(executed, timeout=150, store_widget_state=False, kernel_name="python3").execute()
    nbformat.write(executed, path)  # type: ignore[no-untyped-call]
    notebook = Notebook(chrome, server, "elsewhere.ipynb")
    expect(notebook.cell(1).locator("td code")).to_have_text("run:1")
    notebook.close()


def test_stored_widget_state_shows_the_first_keys(server: Server, chrome: Browser) -> None:
    """A trusted notebook stored with its widgets' state shows the keys in JupyterLab, whose kernel knows no browser."""
    path = server.root / "stored.ipynb"
    write_notebook(path, [SETUP, "browser_of({f'run:{n:02d}': b'12' for n in range(60)})"])
    executed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(executed, timeout=150, store_widget_state=True, kernel_name="python3").execute()
    nbformat.write(executed, path)  # type: ignore[no-untyped-call]
    notebook = Notebook(chrome, server, "stored.ipynb")
    notebook.page.evaluate(
        "() => { for (const cell of window.jupyterapp.shell.currentWidget.content.widgets) cell.model.trusted = true; }"
    )
    widget = notebook.cell(1).locator(".pk")
    expect(rows(widget)).to_have_count(50)
    expect(widget.get_by_role("status")).to_contain_text("60 keys")
    assert notebook.errors == []
    notebook.close()


def test_notebook_7_shows_it_too(server: Server, chrome: Browser) -> None:
    """The same widget paints, previews and keeps its keys to itself in Notebook 7."""
    write_notebook(server.root / "seven.ipynb", [SETUP, "browser_of(kinds)"])
    notebook = Notebook(chrome, server, "seven.ipynb", app="notebooks")
    notebook.run(0)
    widget = browser_in(notebook, 1)
    row_of(widget, "json").click()
    expect(widget.locator(".pk-value")).to_contain_text("steps")
    before = notebook.cells()
    notebook.page.keyboard.press("x")
    assert notebook.cells() == before
    notebook.close()
