"""What the page makes of values, folders, marks and a kernel that is gone, in a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab import SETUP, Notebook, Server, browser_in, row_of, rows, write_notebook
from playwright.sync_api import Browser, Locator, expect

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

VALUES = r"""
events = b"".join(json.dumps({"t": n, "kind": "x" if n % 2 else None}).encode() + b"\n" for n in range(120))
cube = io.BytesIO(); np.save(cube, np.arange(2 * 60 * 3).reshape(2, 60, 3))
values = {
    "big.json": json.dumps([{"i": n, "text": "word " * 20, "in": {"deep": [n]}} for n in range(900)]).encode(),
    "agent/step:1": json.dumps({"action": json.dumps({"tool": "search", "args": ["red shoes"]}), "n": 1}).encode(),
    "agent/step:2": json.dumps({"action": json.dumps({"tool": "search", "args": ["blue shoes"]}), "n": 2}).encode(),
    "run:1/plot.png": png, "run:1/half.png": png[:-20], "run:1/events": events, "run:1/cube": cube.getvalue(),
    "run:1/notes.md": b"# Notes\n\n**x** <b onclick=x>raw</b>\n- one\n\n[web](https://a.b/) [no](javascript:alert(1))",
    "run:1/\u05d0.txt": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd".encode(),
    "k" * 300 + "end": b"x" * 100, "raw": bytes(range(256)) * 8,
}
"""
CELLS = [SETUP + VALUES, "browser_of(values, load_line='store[{key}]')"]


@pytest.fixture
def widget(notebook: Notebook) -> Locator:
    """A browser nobody used yet."""
    return browser_in(notebook, 1)


def sides_of(widget: Locator, part: str) -> tuple[float, float]:
    """Return the width and height of a part."""
    box = widget.locator(part).bounding_box()
    assert box is not None
    return box["width"], box["height"]


def test_json_of_any_width_opens_to_its_end(widget: Locator) -> None:
    """JSON above 64 KiB is a tree; closed nodes tell their content, and what is left out comes on demand."""
    row_of(widget, "big.json").click()
    tree = widget.locator(".pk-json")
    expect(tree.locator("summary").nth(1)).to_contain_text('{ i: 0, text: "word')
    assert widget.locator(".pk-value").evaluate("node => node.scrollWidth <= node.clientWidth")
    tree.get_by_role("button", name="800 more").click()
    expect(tree.get_by_role("button", name="700 more")).to_be_visible()
    tree.locator("summary").nth(150).click()
    expect(tree.locator("details[open] .pk-leaf").first).to_contain_text("i: 149")
    widths = tree.locator(".pk-leaf").evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)")
    assert min(width for width in widths if width) > 100


def test_text_that_is_json_opens_is_found_and_leads_back_to_python(notebook: Notebook, widget: Locator) -> None:
    """JSON inside of text opens like any node; search opens the way to it; its code and value can be copied."""
    row_of(widget, "agent/step:1").click()
    widget.get_by_label("Find in value").fill("SHOES")
    found = widget.locator(".pk-here")
    expect(found).to_contain_text("red shoes")
    found.hover()
    found.get_by_role("button", name="Copy code of this node").click()
    expect(found.get_by_text("Copied")).to_be_visible()
    assert notebook.copied() == "json.loads(store['agent/step:1']['action'])['args'][0]"
    expect(found.get_by_text("Copied")).to_have_count(0)
    found.get_by_role("button", name="Copy this value").click()
    expect(found.get_by_text("Copied")).to_be_visible()
    assert notebook.copied() == "red shoes"


def test_a_folder_says_that_it_filters(widget: Locator) -> None:
    """The folder stands above the list, the tree closed or not; a search says where it found nothing, and leads out."""
    toggle = widget.get_by_label("Folders", exact=True).first
    toggle.click()
    folder = widget.get_by_role("treeitem").filter(has_text="run:")
    folder.click()
    leaf = widget.get_by_role("treeitem").filter(has_text="1/")
    expect(leaf).to_be_visible()
    assert leaf.get_attribute("aria-expanded") is None
    expect(rows(widget).first.locator(".pk-key")).to_have_text("1/cube")
    toggle.click()
    expect(widget.locator(".pk-crumbs")).to_contain_text("run:")
    toggle.click()
    expect(widget.get_by_role("treeitem").filter(has_text="1/")).to_be_visible()
    widget.get_by_label("Search keys").fill("step")
    expect(widget.get_by_text("No key in run: contains “step”.")).to_be_visible()
    widget.get_by_role("button", name="Search all keys (2)").click()
    expect(rows(widget)).to_have_count(2)
    expect(widget.locator(".pk-crumbs")).to_be_hidden()


def test_the_preview_goes_with_its_key(widget: Locator) -> None:
    """A search that leaves the selected key out clears the preview and says so; it comes back with the key."""
    row_of(widget, "raw").click()
    expect(widget.locator(".pk-title")).to_have_text("raw")
    widget.get_by_label("Search keys").fill("step")
    expect(widget.get_by_text("The selected key is not found.")).to_be_visible()
    expect(widget.get_by_text("Where the space is")).to_be_visible()
    widget.get_by_label("Search keys").fill("")
    expect(widget.locator(".pk-title")).to_have_text("raw")


def test_every_byte_of_a_dump_can_be_reached(widget: Locator) -> None:
    """The hex view scrolls to its ASCII column, by mouse and by keyboard."""
    row_of(widget, "raw").click()
    value = widget.get_by_role("region", name="Value")
    expect(value).to_contain_text("00000000  00 01 02")
    reach = "node => { node.scrollLeft = 1e6; const dump = node.firstChild.getBoundingClientRect();"
    assert value.evaluate(f"{reach} return dump.right <= node.getBoundingClientRect().right; }}")
    assert value.get_attribute("tabindex") == "0"


def test_tables_turn_their_pages(widget: Locator) -> None:
    """JSON Lines are a table whose later rows come on demand; an array of three axes shows the slice that is chosen."""
    row_of(widget, "run:1/events").click()
    value = widget.locator(".pk-value")
    expect(value).to_contain_text("rows 1 to 50 of 120")
    expect(value.locator("td.pk-missing").first).to_be_visible()
    value.get_by_label("Next rows").evaluate("button => { button.click(); button.click(); }")  # faster than the answers
    expect(value.locator("tbody tr").last).to_contain_text("119")
    row_of(widget, "run:1/cube").click()
    expect(value).to_contain_text("2 by 60 by 3")
    value.get_by_label("axis 0, 0 to 1").fill("1")
    value.get_by_label("axis 0, 0 to 1").press("Enter")
    expect(value.locator("tbody tr").first).to_contain_text("180")
    expect(value.locator("canvas")).to_be_visible()


def test_images_say_what_is_missing_and_grow(widget: Locator) -> None:
    """A PNG that is cut off is drawn with a warning; a click makes an image larger; black lines show in the dark."""
    row_of(widget, "run:1/half.png").click()
    expect(widget.get_by_role("note")).to_contain_text("may be cut off")
    row_of(widget, "run:1/plot.png").click()
    expect(widget.locator(".pk-title")).to_have_text("run:1/plot.png")
    image = widget.locator(".pk-value img")
    expect(image).to_be_visible()
    small, _ = sides_of(widget, ".pk-value img")
    widget.get_by_label("Enlarge").click()
    assert sides_of(widget, ".pk-value img")[0] > small
    expect(image).to_have_css("background-image", re.compile("gradient"))


def test_a_download_has_the_name_of_its_key(notebook: Notebook, widget: Locator) -> None:
    """The file is the value, named after the key, with the extension of its format, without a hash."""
    for key, name, start in (
        ("run:1/plot.png", "run_1_plot.png", b"\x89PNG"),
        ("run:1/events", "run_1_events.jsonl", b'{"t": 0'),
    ):
        row_of(widget, key).click()
        expect(widget.locator(".pk-title")).to_have_text(key)
        with notebook.page.expect_download() as download:
            widget.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == name
        assert Path(download.value.path()).read_bytes().startswith(start)


def test_markdown_is_made_of_safe_nodes(widget: Locator) -> None:
    """Headings, lists and links to the web are shown; markup in it stays text, and no other address is a link."""
    row_of(widget, "run:1/notes.md").click()
    shown = widget.locator(".pk-markdown")
    expect(shown.get_by_role("heading")).to_have_text("Notes")
    expect(shown).to_contain_text("<b onclick=x>raw</b>")
    assert shown.locator("a").evaluate_all("nodes => nodes.map(node => node.href)") == ["https://a.b/"]


def test_text_from_right_to_left_stands_right(widget: Locator) -> None:
    """A line of Hebrew begins at the right, its number stays at the left."""
    rows(widget).filter(has_text="א").click()
    line = widget.locator(".pk-lines > div").first
    expect(line).to_contain_text("שלום")
    box = "node => { const range = document.createRange(); range.selectNodeContents(node);"
    inside = f"{box} return node.getBoundingClientRect().right - range.getBoundingClientRect().right; }}"
    assert line.evaluate(inside) < 3


def test_a_long_key_has_one_ellipsis(widget: Locator) -> None:
    """A key above 200 characters keeps its beginning and its end, and what is left out is told once."""
    row = row_of(widget, "kkkk").locator(".pk-key")
    expect(row).to_contain_text("end")
    assert (row.text_content() or "").count("…") == 1


def test_marks_reach_over_pages_and_become_code(notebook: Notebook, widget: Locator) -> None:
    """Ctrl and Shift mark rows, all that is found can be marked, and two marked values can be compared."""
    widget.get_by_label("Search keys").fill("step")
    expect(rows(widget)).to_have_count(2)
    rows(widget).nth(0).click()
    rows(widget).nth(1).click(modifiers=["Shift"])
    expect(widget.get_by_text("2 marked")).to_be_visible()
    widget.locator(".pk-marks").get_by_role("button", name="Copy code").click()
    expect(widget.locator(".pk-marks").get_by_text("Copied")).to_be_visible()
    assert notebook.copied() == "store.values_frame(keys=['agent/step:1', 'agent/step:2'])"
    widget.get_by_role("button", name="Compare").click()
    expect(widget.locator(".pk-removed").last).to_have_text("1")
    expect(widget.locator(".pk-added").last).to_have_text("2")
    expect(widget.get_by_role("rowheader", name="$.n")).to_be_visible()
    rows(widget).nth(0).click(modifiers=["Control"])
    expect(widget.get_by_text("1 marked")).to_be_visible()
    widget.get_by_role("button", name="Unmark").click()
    widget.get_by_label("Search keys").fill("")
    rows(widget).first.click(modifiers=["Control"])
    widget.get_by_role("button", name="Mark all 11 found").click()
    expect(widget.get_by_text("11 marked")).to_be_visible()
    expect(widget.get_by_role("button", name="Delete…")).to_have_count(0)
    widget.get_by_role("button", name="Unmark").click()


def test_the_kind_of_each_row_is_told(widget: Locator) -> None:
    """Each row in view tells what its value is, by its content."""
    kinds = {"big.json": "json", "run:1/cube": "npy", "run:1/plot.png": "png", "run:1/events": "jsonl"}
    for key, kind in kinds.items():
        expect(row_of(widget, key).locator(".pk-kind")).to_contain_text(kind)


def test_panes_and_height_can_be_moved(widget: Locator) -> None:
    """Separators move with the arrow keys: the preview becomes wider, the browser higher."""
    sides = ".pk-preview", ".pk-body"
    (width, _), (_, height) = (sides_of(widget, side) for side in sides)
    widget.get_by_role("separator", name="Width of the panes").last.press("ArrowLeft")
    widget.get_by_role("separator", name="Height").press("ArrowDown")
    assert sides_of(widget, sides[0])[0] > width
    assert sides_of(widget, sides[1])[1] > height


def test_a_kernel_that_is_gone_is_said(server: Server, chrome: Browser) -> None:
    """After a restart the page says that the cell must run again, raises nothing, and goes on asking."""
    write_notebook(server.root / "gone.ipynb", CELLS)
    notebook = Notebook(chrome, server, "gone.ipynb")
    notebook.run(0)
    widget = browser_in(notebook, 1)
    notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    row_of(widget, "raw").click()
    expect(widget.get_by_role("alert")).to_contain_text("run this cell again")
    widget.get_by_label("Search keys").fill("x")
    own = "create_subshell_request"  # JupyterLab's own request, when the restart overtakes it
    assert [error for error in notebook.errors if own not in error] == []
    notebook.run(0)
    again = browser_in(notebook, 1)
    expect(again.get_by_role("alert")).to_be_hidden()
    notebook.close()


def test_one_lost_answer_blocks_no_search(widget: Locator) -> None:
    """A search whose answer never comes is given up after five seconds; the next one is asked and shown."""
    lose = """node => { window.lost = 0; const ask = WebSocket.prototype.send;
        WebSocket.prototype.send = function (data) { if (window.lost++ < 1) return; ask.call(this, data); }; }"""
    widget.evaluate(lose)
    search = widget.get_by_label("Search keys")
    search.fill("nowhere")
    search.fill("step")
    expect(rows(widget)).to_have_count(2)
    expect(widget.get_by_role("alert")).to_be_hidden()
