"""The browser where no kernel knows it, in saved notebooks."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from lab import SETUP, Notebook, Server, rows, write_notebook
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def executed(path: Path, cell: str, *, with_state: bool = False) -> nbformat.NotebookNode:
    """Write a notebook, run it, and write it again with its outputs."""
    write_notebook(path, [SETUP, cell])
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=150, store_widget_state=with_state, kernel_name="python3").execute()
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    return notebook


def test_without_a_kernel_a_table_is_there(server: Server, chrome: Browser) -> None:
    """An executed notebook shows the first keys, in HTML without a script, and in JupyterLab before it runs."""
    saved = executed(server.root / "elsewhere.ipynb", "browser_of({'<b>run</b>:1': b'12'})")
    html, _ = HTMLExporter().from_notebook_node(saved)  # type: ignore[no-untyped-call]
    context = chrome.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(html, wait_until="domcontentloaded")
    expect(page.locator("td code")).to_have_text("<b>run</b>:1")
    context.close()
    notebook = Notebook(chrome, server, "elsewhere.ipynb")
    expect(notebook.cell(1).locator("td code")).to_have_text("<b>run</b>:1")
    notebook.close()


def test_stored_widget_state_shows_the_first_keys(server: Server, chrome: Browser) -> None:
    """A trusted notebook stored with its widgets' state shows the keys in JupyterLab, whose kernel knows no browser."""
    executed(server.root / "stored.ipynb", "browser_of({f'run:{n:02d}': b'12' for n in range(60)})", with_state=True)
    notebook = Notebook(chrome, server, "stored.ipynb")
    notebook.page.evaluate(
        "() => { for (const cell of window.jupyterapp.shell.currentWidget.content.widgets) cell.model.trusted = true; }"
    )
    widget = notebook.cell(1).locator(".pk")
    expect(rows(widget)).to_have_count(50)
    expect(widget.get_by_role("status")).to_contain_text("60 keys")
    assert notebook.errors == []
    notebook.close()
