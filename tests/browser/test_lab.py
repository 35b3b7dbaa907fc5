"""The browser in a real JupyterLab, driven with Chromium."""

from __future__ import annotations

import re
import time

import pytest
from lab import SETUP, Notebook, Server, browser_in, poor_contrast, row_of, rows
from playwright.sync_api import expect

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

WAITING = """
class Waiting(MemoryEngine):
    def _load(self, key):
        while not Path("answer").exists():
            time.sleep(0.05)
        return b"late"

waiting = Waiting()
waiting.batch_save({"a": b"1", "b": b"2"})
KeyBrowser(waiting)
"""
CELLS = [
    SETUP,
    "many = browser_of({f'session:{n:04d}/step:{n % 7}': b'x' * n for n in range(2000)}); many",
    "browser_of(kinds)",
    "deleting = browser_of({f'key:{n:02d}': b'x' for n in range(15)}, read_only=False); deleting",
    "shared = browser_of({'a': b'1', 'b': b'2'}); shown = ipywidgets.Label()\n"
    "shared.observe(lambda change: setattr(shown, 'value', f'chosen: {change.new}'), 'key')\n"
    "ipywidgets.VBox([shared, shared, shown])",
    "shared.key = 'a'",
    "browser_of(hostile)",
    "deleting.refresh(); deleting.wait(); print(deleting)",
    WAITING,
    "read = ipywidgets.Output(); mirror = ipywidgets.Text()\n"
    "composed = browser_of({'a': b'first', 'b': b'second'}, read_only=False)\n"
    "def show(change):\n    read.clear_output()\n    with read: print(composed.data)\n"
    "composed.observe(show, 'key')\n"
    "ipywidgets.link((composed, 'query'), (mirror, 'value'))\n"
    "ipywidgets.VBox([composed, mirror, read])",
    "from IPython.display import HTML; from persistkit import Store\n"
    "priced = Store(MemoryEngine()); priced['from $1 to $2'] = 0; display(HTML('<p>$y^2$</p>'), priced)",
    "growing = MemoryEngine(); growing.batch_save({'b': b'1', 'c': b'2'}); replaced = KeyBrowser(growing); replaced",
    "growing.save('a', b'0'); replaced.refresh(); replaced.wait()",
    "print('told:', replaced.key, *replaced.selected_keys)",
]


def test_the_card_of_a_store_is_not_typeset(notebook: Notebook) -> None:
    """JupyterLab makes a formula of what stands between dollars elsewhere, but not of a key."""
    notebook.run(10)
    shown = notebook.cell(10).locator(".jp-OutputArea-output")
    expect(shown.first.locator("mjx-container")).to_have_count(1)
    expect(shown.last).to_contain_text("from $1 to $2")
    expect(shown.last.locator("mjx-container")).to_have_count(0)


def test_it_pages_searches_sorts_and_jumps(notebook: Notebook) -> None:
    """The total is true, and search, sort, page and folder each show the right first key."""
    widget = browser_in(notebook, 1)
    expect(widget.get_by_role("status")).to_contain_text("2,000 keys")
    expect(rows(widget)).to_have_count(50)
    widget.get_by_label("Page", exact=True).fill("40")
    widget.get_by_label("Page", exact=True).press("Enter")
    expect(rows(widget).last).to_contain_text("session:1999/step:4")
    widget.get_by_label("First page").click()
    widget.get_by_label("Sort by size").click()
    expect(rows(widget).first).to_contain_text("session:1999")
    expect(widget.get_by_role("columnheader", name="Sort by size")).to_have_attribute("aria-sort", "descending")
    widget.get_by_label("How to search").select_option("glob")
    widget.get_by_label("Search keys").fill("*:00[0-4]?/*:6")
    expect(widget.get_by_role("status")).to_contain_text("7 of 2,000 keys, ")
    widget.get_by_label("Search keys").fill("nothing")
    expect(widget.get_by_text("No key fits “nothing”")).to_be_visible()
    widget.get_by_label("Search keys").press("Escape")
    widget.get_by_label("Folders", exact=True).first.click()
    widget.get_by_role("treeitem").filter(has_text="session:").first.click()
    expect(widget.get_by_role("treeitem").filter(has_text="0000/").first).to_be_visible()
    press = notebook.page.keyboard.press
    press("ArrowDown")
    press("ArrowDown")
    expect(widget.get_by_role("treeitem").filter(has_text="0001/")).to_be_focused()
    press("Enter")
    expect(widget.get_by_role("status")).to_have_text("1 of 2,000 keys, 1 B")
    expect(rows(widget)).to_contain_text(["step:1"])
    press("Home")
    press("Space")
    expect(rows(widget)).to_have_count(50)


def test_keys_typed_stay_inside(notebook: Notebook) -> None:
    """Neither ``b`` adds a cell nor ``x`` cuts one, in the search field and in the table."""
    widget = browser_in(notebook, 1)
    before = notebook.cells()
    rows(widget).first.click()
    for key in ("b", "x", "d", "d", "a"):
        notebook.page.keyboard.press(key)
    widget.get_by_label("Search keys").focus()
    notebook.page.keyboard.type("bx")
    expect(widget.get_by_label("Search keys")).to_have_value("bx")
    assert notebook.cells() == before
    expect(widget).to_be_visible()


def test_the_keyboard_does_everything(notebook: Notebook) -> None:
    """Arrows, Home, End, PageDown and PageUp move and turn."""
    widget = browser_in(notebook, 1)
    press = notebook.page.keyboard.press
    chosen = widget.locator("tr[aria-selected=true]")
    rows(widget).first.focus()
    press("ArrowDown")
    expect(chosen).to_contain_text("session:0001")
    press("End")
    expect(chosen).to_contain_text("session:0049")
    press("ArrowDown")
    expect(chosen).to_contain_text("session:0050")
    press("PageDown")
    expect(chosen).to_contain_text("session:0100")
    press("PageUp")
    expect(chosen).to_contain_text("session:0050")
    press("End")
    press("Home")
    expect(chosen).to_contain_text("session:0050")


def test_the_focus_stays_inside(notebook: Notebook) -> None:
    """A control that goes or is disabled once it is pressed leaves the focus to the preview or to a row."""
    widget = browser_in(notebook, 2)
    press = notebook.page.keyboard.press
    rows(widget).first.focus()
    press("Enter")
    value = widget.get_by_role("region", name="Value")
    for name in ("hex", "text"):
        tab = widget.locator(".pk-tab").filter(has_text=name)  # among the newest keys are buttons of that name too
        tab.press("Enter")
        expect(tab).to_have_attribute("aria-pressed", "true")
        expect(value).to_be_focused()
    press("Escape")
    expect(widget.locator("tr[aria-selected=true]")).to_be_focused()
    widget = browser_in(notebook, 1)
    widget.get_by_label("Last page").press("Enter")
    expect(rows(widget).first).to_contain_text("session:1950")
    expect(rows(widget).first).to_be_focused()
    widget = browser_in(notebook, 9)
    rows(widget).first.focus()
    press("Space")
    widget.get_by_role("button", name="Unmark").press("Enter")
    expect(rows(widget).first).to_be_focused()


def test_keys_pressed_faster_than_answers_come_all_count(notebook: Notebook) -> None:
    """Every key moves from where the one before it led, also when no page and no preview came in between."""
    widget = browser_in(notebook, 1)
    rows(widget).first.focus()
    keys = ["End", "ArrowDown", "PageDown", "ArrowDown", "PageDown", "PageUp", "ArrowUp", "PageDown", "ArrowDown"]
    for key in keys:
        notebook.page.keyboard.press(key)
    # 49, 50, 100, 101, 150, 100, 99, 100, 101
    chosen = widget.locator("tr[aria-selected=true]")
    expect(chosen).to_contain_text("session:0101")
    expect(chosen).to_be_focused()
    expect(widget.locator(".pk-title")).to_have_text("session:0101/step:3")
    expect(widget.get_by_label("Page", exact=True)).to_have_value("3")


def test_text_is_safe_damage_has_a_name_and_a_large_value_comes_in_parts(notebook: Notebook) -> None:
    """Escapes are written out, what is no table is said, and parts follow each other in either view."""
    widget = browser_in(notebook, 2)
    value = widget.locator(".pk-value")
    row_of(widget, "text").click()
    expect(value).to_contain_text("Grüße␛[31m")
    row_of(widget, "image").click()
    expect(value).to_contain_text("40 by 20")
    row_of(widget, "damaged").click()
    expect(widget.get_by_role("note")).to_contain_text("damaged parquet")
    row_of(widget, "large").click()
    expect(widget.get_by_text("first 64.0 KiB of 2.9 MiB")).to_be_visible()
    widget.get_by_role("button", name="Show more").click()
    expect(widget.get_by_text("first 1.0 MiB of 2.9 MiB")).to_be_visible()
    widget.get_by_role("button", name="Next", exact=True).click()
    expect(widget.get_by_text("1.0 MiB to 2.0 MiB of 2.9 MiB")).to_be_visible()
    widget.get_by_role("button", name="hex").click()
    expect(value).to_contain_text("00100000  78 78")


def test_a_picture_of_too_many_pixels_is_never_drawn(notebook: Notebook) -> None:
    """A PNG of 50 kB with 400 million pixels is refused by what the browser reads of it; the page goes on."""
    widget = browser_in(notebook, 2)
    row_of(widget, "bomb.png").click()
    expect(widget.locator(".pk-value")).to_contain_text("20,000 by 20,000 pixels")
    expect(widget.locator(".pk-value img")).to_have_count(0)
    begun = time.monotonic()
    row_of(widget, "json").click()
    expect(widget.locator(".pk-value")).to_contain_text("steps")
    assert time.monotonic() - begun < 5


def test_key_and_line_can_be_copied(notebook: Notebook) -> None:
    """What the buttons put on the clipboard is the key, and the Python line that loads it."""
    widget = browser_in(notebook, 1)
    row_of(widget, "session:0003").click()
    for name, text in {
        "Copy key": "session:0003/step:3",
        "Copy code": "engine.load('session:0003/step:3')",
    }.items():
        widget.get_by_role("button", name=name).click()
        expect(widget.get_by_role("button", name="Copied").first).to_be_visible()
        assert notebook.copied() == text
        expect(widget.get_by_role("button", name=name)).to_be_visible()


@pytest.mark.parametrize("width", [1600, 760, 420])
def test_nothing_sticks_out_at_any_width(notebook: Notebook, width: int) -> None:
    """In wide and narrow windows all controls, folders, marks and preview included, lie inside the browser."""
    widget = browser_in(notebook, 9)
    notebook.page.set_viewport_size({"width": width, "height": 900})
    rows(widget).first.get_by_label("Mark", exact=True).click()
    rows(widget).first.click()
    widget.get_by_label("Folders", exact=True).first.click()
    expect(widget.locator(".pk-value")).to_contain_text("first")
    outside = """root => { const box = root.getBoundingClientRect();
        return [...root.querySelectorAll('button, select, input, td, th, pre, dd')].filter(node => {
            const own = node.getBoundingClientRect();
            return own.width && node.checkVisibility()
                && (own.right > box.right + 1 || own.left < box.left - 1 || own.bottom > box.bottom + 1);
        }).map(node => node.outerHTML); }"""
    assert widget.evaluate(outside) == []
    assert widget.locator(".pk-turn").evaluate("node => node.scrollWidth <= node.clientWidth + 1")
    notebook.page.set_viewport_size({"width": 1280, "height": 900})


def test_it_composes_with_other_widgets(notebook: Notebook) -> None:
    """A linked text field searches, and an Output shows the value that is chosen in the page."""
    widget = browser_in(notebook, 9)
    rows(widget).nth(1).click()
    output = notebook.cell(9)
    expect(output.get_by_text("b'second'")).to_be_visible()
    mirror = output.locator(".widget-text input")
    mirror.fill("a")
    mirror.press("Tab")
    expect(rows(widget)).to_have_count(1)
    expect(widget.get_by_label("Search keys")).to_have_value("a")
    widget.get_by_label("Search keys").fill("b")
    expect(mirror).to_have_value("b")
    expect(rows(widget)).to_contain_text(["b"])


def test_deletion_is_confirmed(notebook: Notebook) -> None:
    """Cancel has the focus and deletes nothing; more than ten ask for their number; the values are gone."""
    widget = browser_in(notebook, 3)
    rows(widget).first.focus()
    notebook.page.keyboard.press("Space")
    expect(widget.get_by_text("1 marked")).to_be_visible()
    widget.get_by_role("button", name="Delete…").click()
    expect(widget.get_by_role("button", name="Cancel")).to_be_focused()
    notebook.page.keyboard.press("Enter")
    expect(rows(widget)).to_have_count(15)
    widget.get_by_label("Mark this page").click()
    expect(widget.get_by_text("15 marked")).to_be_visible()
    for n in range(12, 15):
        row_of(widget, f"key:{n:02d}").get_by_label("Mark", exact=True).click()
    expect(widget.get_by_text("12 marked")).to_be_visible()
    widget.get_by_role("button", name="Delete…").click()
    sure = widget.get_by_role("button", name="Delete 12 values")
    expect(sure).to_be_disabled()
    widget.get_by_label("Type 12 to confirm").fill("12")
    sure.click()
    expect(rows(widget)).to_have_count(3)
    notebook.run(7)
    expect(notebook.cell(7).locator(".jp-OutputArea-output")).to_have_text("KeyBrowser(MemoryEngine: 3 keys, 3 B)")


def test_two_views_and_python_share_one_selection(notebook: Notebook) -> None:
    """A row chosen in one view is chosen in the other and observed in Python; a key set in Python is shown in both."""
    browser_in(notebook, 4)
    first, second = (notebook.cell(4).locator(".pk").nth(n) for n in (0, 1))
    expect(rows(second)).to_have_count(2)
    rows(first).nth(1).click()
    expect(second.locator("tr[aria-selected=true]")).to_contain_text("b")
    expect(notebook.cell(4).get_by_text("chosen: b")).to_be_visible()
    notebook.run(5)
    for view in (first, second):
        expect(view.locator("tr[aria-selected=true]")).to_contain_text("a")


def test_hostile_content_is_only_shown(notebook: Notebook) -> None:
    """Keys and values made to attack are listed and previewed as text: nothing runs, nothing hangs."""
    widget = browser_in(notebook, 6)
    expect(rows(widget)).to_have_count(10)
    for n in range(10):
        rows(widget).nth(n).click()
        expect(widget.locator(f'.pk-preview[data-row="{n}"] .pk-value')).to_be_visible()
    row_of(widget, "deep").click()
    expect(widget.get_by_role("note")).to_contain_text("nested too deeply")
    row_of(widget, "svg").click()
    expect(widget.locator(".pk-value img")).to_be_visible()
    assert notebook.page.evaluate("() => window.hacked") is None
    assert widget.locator("svg, script, img:not(.pk-value img)").count() == 0


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_text_has_contrast(notebook: Notebook, theme: str) -> None:
    """Computed colours of every text, selected row, folders and notes included, differ by 4.5 to 1 or more."""
    widget = browser_in(notebook, 2)
    notebook.theme(theme)
    row_of(widget, "json").click()
    expect(widget.locator(".pk-value")).to_contain_text("steps")
    assert poor_contrast(widget) == []
    row_of(widget, "damaged").click()
    expect(widget.get_by_role("note")).to_be_visible()
    widget.get_by_label("Folders", exact=True).first.click()
    expect(widget.get_by_role("treeitem").first).to_be_visible()
    assert poor_contrast(widget) == []
    notebook.theme("JupyterLab Light")


def test_a_late_answer_is_announced(notebook: Notebook, server: Server) -> None:
    """While Python does not answer the page says so, and no longer once it did."""
    widget = browser_in(notebook, 8)
    rows(widget).first.click()
    expect(widget).to_have_class(re.compile("pk-late"))
    (server.root / "answer").touch()
    expect(widget.locator(".pk-value")).to_have_text("late")
    expect(widget).not_to_have_class(re.compile("pk-late"))


def test_a_click_on_a_row_that_is_being_replaced_is_on_its_key(notebook: Notebook) -> None:
    """Between a new listing and its rows those of the old one are marked and chosen by their own keys."""
    widget = browser_in(notebook, 11)
    hold = """() => { const send = WebSocket.prototype.send; const held = [];
        const text = (data) => typeof data === 'string' ? data : new TextDecoder().decode(data);
        window.letGo = () => { WebSocket.prototype.send = send; for (const [to, data] of held) send.call(to, data); };
        WebSocket.prototype.send = function (data) {
            if (text(data).includes('"op":"page"')) held.push([this, data]); else send.call(this, data); }; }"""
    notebook.page.evaluate(hold)
    notebook.run(12)
    expect(widget.locator(".pk-summary")).to_have_attribute("title", re.compile("3 keys"))
    rows(widget).nth(0).get_by_label("Mark", exact=True).click()
    rows(widget).nth(1).click()
    expect(widget.locator(".pk-title")).to_have_text("c")
    notebook.page.evaluate("() => window.letGo()")
    expect(rows(widget)).to_have_count(3)
    expect(widget.locator("tr[aria-selected=true] .pk-key")).to_have_text("c")
    notebook.run(13)
    expect(notebook.cell(13).locator(".jp-OutputArea-output")).to_have_text("told: c b")
