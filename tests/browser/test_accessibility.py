"""What screen readers, keyboards and forced colours need, in every state of the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python  # type: ignore[import-untyped]
import pytest
from lab import SETUP, Notebook, browser_in, row_of, rows
from playwright.sync_api import Locator, expect

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELLS = [
    SETUP,
    "long = {'long.txt': b'line\\n' * 500, 'long.json': json.dumps([[n] for n in range(200)]).encode(),\n"
    "        'note.md': b'# Title\\n\\n' + b'text\\n\\n' * 200, 'run:1': b'12', 'run:2': b'13', 'empty': b'',\n"
    "        'long' * 250: b'1', 'objects': json.dumps([{'a': n} for n in range(80)]).encode(),\n"
    "        **{f'many:{n:03d}': b'1' for n in range(80)}}\n"
    "browser_of({**kinds, **long}, read_only=False)",
]
# A key, and the views of its value.
VIEWS = {
    "json": ["json", "text", "hex"],
    "image": ["image"],
    "npy": ["table"],
    "parquet": ["table"],
    "large": ["text"],
    "damaged": ["hex"],
    "cut off.png": ["image"],
    "long.txt": ["text", "hex"],
    "long.json": ["json"],
    "note.md": ["markdown"],
    "objects": ["table"],
    "empty": ["text"],
    "longlong": ["json"],  # a title that scrolls
}


@pytest.fixture
def widget(notebook: Notebook) -> Locator:
    """The browser of all kinds, freshly run."""
    return browser_in(notebook, 1)


def preview(widget: Locator, key: str, view: str) -> Locator:
    """Search for a key, choose it, and return its value once that is shown as asked."""
    widget.get_by_placeholder("Search keys").fill(key)
    row_of(widget, key).first.click()
    expect(widget.locator(".pk-title")).to_contain_text(key)
    widget.locator(".pk-tabs").get_by_role("button", name=view, exact=True).click()
    value = widget.locator(f".pk-value[data-kind={view}]")
    expect(value).to_be_visible()
    return value


def states(widget: Locator) -> Iterator[str]:
    """Bring the browser into each of its states."""
    expect(widget.locator(".pk-overview").first).to_be_visible()
    yield "nothing selected"
    for key, views in VIEWS.items():
        for view in views:
            preview(widget, key, view)
            yield f"{key} as {view}"
    widget.locator(".pk-facts summary").click()
    yield "facts"
    widget.get_by_placeholder("Search keys").fill("nowhere")
    expect(widget.locator(".pk-empty")).to_be_visible()
    yield "nothing found"
    widget.get_by_placeholder("Search keys").fill("")
    widget.get_by_role("button", name="Folders").click()
    widget.get_by_role("treeitem").filter(has_text="run:").click()
    expect(widget.locator(".pk-crumbs")).to_be_visible()
    expect(rows(widget)).to_have_count(2)
    yield "a folder"
    for row in rows(widget).all():
        row.locator("input").check()
    expect(widget.locator(".pk-marks")).to_contain_text("2 marked")
    yield "marks"
    widget.get_by_role("button", name="Compare").click()
    expect(widget.locator(".pk-diff").first).to_be_visible()
    yield "a comparison"
    widget.locator(".pk-danger").first.click()
    expect(widget.get_by_role("alertdialog")).to_be_visible()
    yield "a question"
    widget.page.keyboard.press("Escape")


def test_axe_finds_nothing_in_any_state(notebook: Notebook, widget: Locator) -> None:
    """axe-core, which browsers' own checkers use, has nothing to say of any state."""
    notebook.page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = {}
    for state in states(widget):
        told = notebook.page.evaluate("() => axe.run('.pk', {resultTypes: ['violations']})")["violations"]
        if told:
            found[state] = [(rule["id"], [node["html"][:150] for node in rule["nodes"]]) for rule in told]
    assert found == {}


@pytest.mark.parametrize(
    ("key", "view"),
    [("long.txt", "text"), ("long.json", "json"), ("note.md", "markdown"), ("large", "hex"), ("objects", "table")],
)
def test_enter_moves_into_the_preview_and_page_down_scrolls_it(widget: Locator, key: str, view: str) -> None:
    """Without a mouse a long value is read to its end, and Escape leads back to its key."""
    value = preview(widget, key, view)
    row_of(widget, key).first.focus()
    widget.page.keyboard.press("Enter")
    expect(value).to_be_focused()
    widget.page.keyboard.press("PageDown")
    widget.page.wait_for_function("value => value.scrollTop > 0", arg=value.element_handle())
    widget.page.keyboard.press("Escape")
    expect(row_of(widget, key).first).to_be_focused()


def test_forced_colours_show_what_is_chosen(widget: Locator) -> None:
    """Where the system forces its colours, the chosen row, view and folder have those of a selection."""
    preview(widget, "json", "text")
    widget.get_by_role("button", name="Folders").click()
    widget.page.emulate_media(forced_colors="active")
    colours = """node => { const probe = document.createElement("i");
        probe.style = "forced-color-adjust: none; color: HighlightText; background: Highlight";
        document.body.append(probe);
        const [chosen, ...texts] = [probe, node, ...node.querySelectorAll("*")].map((one) => getComputedStyle(one));
        const told = texts.map((one) => one.color === chosen.color && one.backgroundColor === chosen.backgroundColor);
        probe.remove();
        return told; }"""
    for chosen in (".pk-keys tr[aria-selected=true]", ".pk-tab[aria-pressed=true]", ".pk-folder[aria-selected=true]"):
        assert all(widget.locator(chosen).first.evaluate(colours)), chosen
    widget.page.emulate_media(forced_colors="none")
