"""What a user does first, done the same in each notebook that can be driven here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from lab import Notebook, Server, row_of, rows, write_notebook
from marimo_page import MarimoPage
from playwright.sync_api import Browser, Locator, Page, expect

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# A value is there already once the kernel was restarted.
SETUP = """
import base64
import pandas as pd
import persistkit
store = persistkit.open("results", create=True)
if not len(store):
    store.update({f"session:{n:02d}": {"step": n, "words": ["x"] * n} for n in range(60)})
    store["table"] = pd.DataFrame({"n": range(500), "text": ["<b>"] * 500})
    store.put_bytes("image.png", base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="))
"""
JUPYTER = [
    SETUP,
    "store",
    "shown = store.browse(read_only=False); shown",
    "print('chosen:', shown.key, *shown.selected_keys)",
]
MARIMO = [
    f"import marimo as mo\n{SETUP}",
    "store",
    "shown = mo.ui.anywidget(store.browse(read_only=False))\nshown",
    "mo.plain_text(' '.join(['chosen:', str(shown.value['key']), *shown.value['selected_keys']]))",
]


def ten_steps(
    page: Page, cell: Callable[[int], Locator], run: Callable[[int], None], restart: Callable[[], None]
) -> None:
    """Open, search, sort, turn the page, look at JSON, a table and an image, mark, delete, restart the kernel.

    Args:
        page: the page of the notebook.
        cell: one cell of it.
        run: runs one cell, where the notebook does not do that by itself.
        restart: starts the kernel again.
    """

    def opened(keys: int) -> Locator:
        for number in range(3):
            run(number)
        widget = cell(2).locator(".pk")
        expect(rows(widget)).to_have_count(50, timeout=120_000)
        expect(widget.get_by_role("status").first).to_contain_text(f"{keys} keys")
        return widget

    def found(text: str) -> Locator:
        widget.get_by_placeholder("Search keys").fill(text)
        expect(rows(widget)).to_have_count(1)
        return row_of(widget, text)

    widget = opened(62)
    name = cell(1).get_by_role("columnheader", name="key")
    expect(cell(1)).to_contain_text("62 keys")
    assert float(name.evaluate("node => parseFloat(getComputedStyle(node).paddingRight)")) > 4
    found("session:07")
    widget.get_by_placeholder("Search keys").fill("")
    widget.get_by_role("button", name="Sort by size").click()
    expect(rows(widget).first).to_contain_text("table")
    widget.get_by_role("button", name="Sort by key").click()
    expect(rows(widget).first).to_contain_text("image.png")
    widget.get_by_role("button", name="Next page").click()
    expect(rows(widget).first).to_contain_text("session:49")
    found("table").click()
    expect(widget.locator(".pk-data tbody tr").first).to_contain_text("<b>")
    found("image.png").click()
    expect(widget.locator(".pk-value img")).to_have_js_property("naturalWidth", 1)
    found("session:07").click()
    expect(widget.locator(".pk-value")).to_contain_text("step: 7")
    row_of(widget, "session:07").locator("input").check()
    expect(widget.get_by_text("1 marked")).to_be_visible()
    run(3)
    expect(cell(3)).to_contain_text("chosen: session:07 session:07")
    widget.get_by_role("button", name="Delete…").click()
    widget.get_by_role("button", name="Delete 1 value").click()
    expect(widget.get_by_role("status").first).to_contain_text("0 of 61 keys")
    restart()
    widget = opened(61)
    assert page.locator(".pk").count() == 1


@pytest.mark.parametrize("app", ["lab/tree", "notebooks"])
def test_ten_steps_in_jupyter(server: Server, chrome: Browser, app: str) -> None:
    """JupyterLab and Notebook 7 show, find, preview and delete; after a restart what was deleted is gone.

    Keys typed stay in the browser: "x" would cut the cell.
    """
    folder = server.root / app.partition("/")[0]
    folder.mkdir()
    write_notebook(folder / "ten.ipynb", JUPYTER)
    notebook = Notebook(chrome, server, f"{folder.name}/ten.ipynb", app=app)
    kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    ten_steps(notebook.page, notebook.cell, notebook.run, lambda: notebook.page.evaluate(f"() => {kernel}.restart()"))
    before = notebook.cells()
    rows(notebook.cell(2)).first.click()
    notebook.page.keyboard.press("x")
    assert notebook.cells() == before
    if app == "lab/tree":  # Notebook 7 has errors of its own as it opens
        assert notebook.errors == []
    notebook.close()


def test_ten_steps_in_marimo(chrome: Browser, tmp_path: Path) -> None:
    """marimo, whose page is not Jupyter's, does the same, and its cells know at once what was chosen."""
    with closing(MarimoPage(chrome, tmp_path, MARIMO)) as opened:
        ten_steps(opened.page, opened.cell, lambda _: None, opened.restart)
        assert opened.errors == []
