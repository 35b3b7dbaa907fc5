"""The card of a store: small, escaped, and never in the way."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit import Entry
from persistkit.card import card

MOMENT = datetime(2026, 3, 18, 10, 2, 4, tzinfo=UTC)


def test_the_card_of_many_keys_is_as_small_as_that_of_ten() -> None:
    """All entries are counted, in one pass and little memory, and eight of them shown."""
    some = [Entry(f"run:{n}", 1024, MOMENT, f"run_{n}-{n:016x}.bin") for n in range(1_000)]
    tracemalloc.start()
    html = card("results", chain.from_iterable(repeat(some, 100)), 8, seconds=600)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(html) < 3_000
    assert peak < 1_000_000
    assert "100,000 keys, 97.7 MiB, newest change 2026-03-18 10:02:04 UTC" in html
    assert "… and 99,992 more" in html


def test_the_card_of_a_store_without_end_comes_in_time_and_says_what_it_has_seen() -> None:
    """Nobody waits for millions of keys to be counted: after its seconds the card is there, and says it is partial."""
    html = card("results", repeat(Entry("run:1", 1024, None, "")), 8, seconds=0.01)
    assert re.search(r"at least [\d,]+000 keys, .* counted for 0.01 seconds; len\(store\) counts all", html)
    assert re.search(r"… and at least [\d,]+992 more", html)


def test_the_card_escapes_whatever_a_key_or_an_address_holds(store: persistkit.Store) -> None:
    """Markup, quotes, controls, direction overrides, lone surrogates and long keys cannot leave their place."""
    store["<script>alert(1)</script>"] = 1
    assert "&lt;script&gt;" in store._repr_html_()
    keys = ["<img src=x onerror=alert(1)>", "\"'&", "\u202etxt.exe", "\x1b[31m", "\udcff", "x" * 1_000, ""]
    entries = [Entry(key, 1, None, "") for key in keys] + [Entry(None, 1, None, "<b>-0.bin")]
    html = card("<i>results</i>", entries, 20)
    assert not re.search("<img|<i>|<b>|\u202e|\x1b|\udcff|x{100}", html)
    assert "<em>(empty key)</em>" in html
    assert "&lt;b&gt;-0.bin (key not known)" in html
    html.encode()


def test_the_card_of_what_cannot_be_listed_says_why(tmp_path: Path) -> None:
    """A store that is gone has a card with the reason instead of a traceback."""
    store = persistkit.open(tmp_path / "a<b", create=True)
    shutil.rmtree(tmp_path / "a<b")
    assert re.search("a&lt;b.*the directory does not exist", store._repr_html_())


@pytest.mark.parametrize("size", [-1, 10**400, None, "12", float("nan")], ids=repr)
@pytest.mark.parametrize(
    "modified",
    [
        datetime(2026, 3, 18, 10, 2, 4),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
        "yesterday",
        None,
    ],
    ids=repr,
)
def test_odd_entries_break_no_card(size: Any, modified: Any) -> None:
    """Whatever size and time an engine gives, with or without a key, the card is there and shows the healthy entry."""
    odd = [Entry("odd", size, modified), Entry(None, size, modified, "x-0.bin"), Entry("fine", 7, MOMENT)]
    html = card("results", odd, 8)
    assert "3 keys" in html
    assert re.search(r">7 B</td><td[^>]*>2026-03-18 10:02:04 UTC</td>", html)
    assert "newest change 2026-03-18 10:02:04 UTC" in html


def test_a_guessed_key_is_marked(tmp_path: Path) -> None:
    """A key that may be another one has a mark, and the card says where the other one is told."""
    (tmp_path / "a__-000000000b8857e3.bin").write_bytes(b"value")
    store = persistkit.open(tmp_path)
    assert re.search(r"a&gt;_ <strong[^>]*>\?</strong>.*", html := store._repr_html_())
    assert "1 marked ?: another key has the same filename, store.alternatives(key) tells it" in html
    assert "marked" not in persistkit.open("memory:")._repr_html_()


def test_the_card_loads_no_widgets_and_no_tables() -> None:
    """A store is shown without importing what only the browser and the tables need."""
    script = """
import sys, persistkit
store = persistkit.open("memory:")
store["run/1"] = {"loss": 0.25}
assert "run/1" in store._repr_html_()
print([name for name in ("anywidget", "ipywidgets", "pandas", "anyio", "asyncio") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_a_folder_of_other_files_names_the_one_with_values(tmp_path: Path) -> None:
    """The card of a folder without values says that its files are others', and what in it to open instead."""
    persistkit.open(tmp_path / "agent-state", create=True)["run"] = 1
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "images").mkdir()
    for store in (persistkit.open(tmp_path), persistkit.open(tmp_path, read_only=True)):
        shown = html.unescape(store._repr_html_())
        assert "what is in this folder is of other programs, and 'agent-state' in it holds values" in shown
        assert f"persistkit.open('{tmp_path}/agent-state')" in shown
    (tmp_path / "empty").mkdir()
    for store in (persistkit.open(tmp_path / "empty"), persistkit.open(tmp_path / "agent-state")):
        assert "other programs" not in store._repr_html_()
