"""The browser in a real JupyterLab, while others write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import SETUP, Notebook, Server, row_of, rows
from playwright.sync_api import expect

from persistkit.engines import open_engine

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELLS = [
    SETUP,
    "live = KeyBrowser(open_engine('store', create=True)); live",
    "print('begun')\nwhile not Path('release').exists(): time.sleep(0.05)",
    "display(KeyBrowser(open_engine('sqlite:///keys.db', create=True)))\n"
    "while not Path('end').exists(): time.sleep(0.05)",
    *["KeyBrowser(open_engine(**json.loads(Path('place').read_text())))"] * 2,
]


def test_a_second_process_is_seen_while_a_cell_runs(notebook: Notebook, server: Server) -> None:
    """A save by another process appears within two polling periods, the kernel busy with a cell meanwhile."""
    notebook.run(1)
    widget = notebook.cell(1).locator(".pk")
    expect(widget.get_by_text("Nothing is stored here yet.")).to_be_visible()
    widget.get_by_label("Live view").select_option("auto")
    notebook.run(2, wait=False)
    expect(notebook.cell(2).locator(".jp-OutputArea").get_by_text("begun")).to_be_visible()
    program = "from persistkit.engines import open_engine; open_engine('store').save('from:outside', b'1')"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=server.root, env=environment, check=True)
    expect(rows(widget)).to_contain_text(["from:outside"])
    expect(notebook.cell(2).locator(".jp-InputPrompt")).to_have_text("[*]:")
    (server.root / "release").touch()
    widget.get_by_label("Live view").select_option("tell")
    open_engine(server.root / "store").save("and:another", b"2")
    widget.get_by_role("button", name="Changed").click()
    expect(rows(widget)).to_have_count(2)
    rows(widget).filter(has_text="from:outside").click()
    widget.get_by_label("Live view").select_option("auto")
    row_of(widget, "from:outside").focus()
    open_engine(server.root / "store").save("a:third", b"3")
    expect(rows(widget)).to_have_count(3)
    expect(row_of(widget, "from:outside")).to_be_focused()
    expect(row_of(widget, "from:outside")).to_have_attribute("aria-selected", "true")
    open_engine(server.root / "store").delete("from:outside")
    expect(rows(widget)).to_have_count(2)
    expect(rows(widget).first).to_be_focused()
    expect(widget.get_by_text("Select a key to see its value.")).to_be_visible()
    widget.get_by_label("Live view").select_option("off")


def test_it_answers_while_the_cell_that_shows_it_runs(notebook: Notebook, server: Server) -> None:
    """Over SQLite it is painted, follows others and previews all the while."""
    notebook.run(3, wait=False)
    widget = notebook.cell(3).locator(".pk")
    try:
        expect(widget.get_by_text("Nothing is stored here yet.")).to_be_visible()
        widget.scroll_into_view_if_needed()  # what is out of sight asks for nothing
        widget.get_by_label("Live view").select_option("auto")
        for number in range(3):
            with open_engine(f"sqlite:///{server.root / 'keys.db'}") as outside:
                outside.save(f"from:outside:{number}", b"1")
            expect(rows(widget)).to_have_count(number + 1)
        rows(widget).last.click()
        expect(widget.locator(".pk-title")).to_have_text("from:outside:2")
        expect(notebook.cell(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    finally:
        (server.root / "end").touch()


@pytest.mark.parametrize(("cell", "database"), [(4, "postgresql"), (5, "valkey")])
def test_servers_are_followed_too(
    notebook: Notebook, server: Server, cell: int, database: str, request: pytest.FixtureRequest
) -> None:
    """What another client saves on PostgreSQL or Valkey appears by itself, and what it deletes goes."""
    address = request.getfixturevalue(f"{database}_address")
    place = {"address": address, **({"create": True} if database == "postgresql" else {})}
    (server.root / "place").write_text(json.dumps(place))
    notebook.run(cell)
    widget = notebook.cell(cell).locator(".pk")
    expect(widget.get_by_text("Nothing is stored here yet.")).to_be_visible()
    widget.scroll_into_view_if_needed()  # what is out of sight asks for nothing
    widget.get_by_label("Live view").select_option("auto")
    with open_engine(address) as outside:
        outside.save("from:outside", b"1")
        expect(rows(widget)).to_contain_text(["from:outside"])
        rows(widget).first.click()
        expect(widget.locator(".pk-title")).to_have_text("from:outside")
        outside.delete("from:outside")
        expect(rows(widget)).to_have_count(0)
