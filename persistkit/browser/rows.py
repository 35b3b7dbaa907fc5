"""What is shown of an index: rows, folders, an overview, why nothing is there, and a table where no kernel is."""

from __future__ import annotations

from collections.abc import Container
from html import escape
from typing import Any, Final

from persistkit.browser.index import Folder, KeyIndex, Query
from persistkit.browser.page_widget import Message
from persistkit.text import human_size, human_time, keys_and_size, label_of, visible

__all__ = ["LABEL", "folders_of", "overview_of", "row_of", "static_table", "why_empty"]

LABEL: Final = 200
_OVERVIEW_ROWS: Final = 8
_STATIC_ROWS: Final = 20
_KEY_CHARACTERS: Final = 120


def row_of(index: KeyIndex, row: int, marked: Container[str | None]) -> list[Any]:
    """Return row number, label, size in words and in bytes, time, 0 to 2 for the key, and whether it is marked."""
    entry = index.entry(row)
    known = 0 if entry.key is None else 2 if entry.ambiguous else 1
    size, time = human_size(entry.size), human_time(entry.modified)
    return [row, label_of(entry, LABEL), size, entry.size, time, known, int(entry.key in marked)]


def folders_of(index: KeyIndex, above: str, following: int) -> Message:
    """Return the folders right below one."""
    found, further = index.level(above, following=following)
    folders = [[*_folder(one, above), f"{one.keys:,}", one.leaf] for one in found]
    return {"folder": above, "folders": folders, "following": further}


def overview_of(index: KeyIndex, above: str, marked: Container[str | None]) -> Message:
    """Return where the space is below a folder, and the newest keys there."""
    folders = sorted(index.level(above)[0], key=lambda one: -one.size)[:_OVERVIEW_ROWS]
    whole = max([1, *(one.size for one in folders)])
    newest = index.rows(Query(folder=above, sort="modified", descending=True))[:_OVERVIEW_ROWS]
    lines = [row_of(index, int(row), marked) for row in newest]
    bars = [[*_folder(one, above), one.size / whole] for one in folders]
    return {"folder": above, "folders": bars, "newest": [line for line in lines if line[4]]}


def _folder(one: Folder, above: str) -> list[str]:
    return [one.path, visible(one.path[len(above) :]), keys_and_size(one.keys, one.size)]


def why_empty(index: KeyIndex, state: Message, query: Query) -> tuple[str, int]:
    """Return why no key is shown, and how many there would be outside of the folder."""
    if state["problem"]:
        return str(state["problem"]), 0
    if state["listing"] and not state["revision"]:
        return f"Listing… {state['listed']:,} keys so far", 0
    if not state["total"]:
        return "Nothing is stored here yet.", 0
    fits = {"substring": "contains", "prefix": "starts with", "glob": "fits"}[query.match]
    text, folder = visible(query.text[:LABEL]), visible(query.folder[:LABEL])
    if query.folder:
        return f"No key in {folder} {fits} “{text}”.", len(index.rows(Query(query.text, query.match)))
    return f"No key {fits} “{text}”.{' Case counts.' if query.text != query.text.lower() else ''}", 0


def static_table(index: KeyIndex, summary: str) -> str:
    """Return the first rows as HTML that needs no script and no style sheet; keys are escaped."""
    cell = "padding:2px 12px 2px 0;text-align:"
    head = "".join(
        f'<th style="{cell}{side}">{name}</th>'
        for name, side in (("Key", "left"), ("Size", "right"), ("Modified (UTC)", "left"))
    )
    lines = []
    for row in range(min(len(index), _STATIC_ROWS)):
        entry = index.entry(row)
        lines.append(
            f'<tr><td style="{cell}left"><code>{escape(label_of(entry, _KEY_CHARACTERS))}</code></td>'
            f'<td style="{cell}right" title="{entry.size:,} bytes">{human_size(entry.size)}</td>'
            f'<td style="{cell}left">{human_time(entry.modified)}</td></tr>'
        )
    rest = len(index) - len(lines)
    more = f"<p>… and {rest:,} more: run the cell to browse them.</p>" if rest > 0 else "<p>Run the cell to browse.</p>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>" if lines else ""
    return f"<div><p>{escape(summary)}</p>{table}{more}</div>"
