"""What a page shows of an index: rows, folders, an overview, and why nothing is there."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from persistkit.browser.index import KeyIndex, Query
from persistkit.text import human_size, human_time, keys_and_size, label_of, visible

__all__ = ["LABEL", "folders_of", "overview_of", "row_of", "why_empty"]

LABEL: Final = 200
_OVERVIEW_ROWS: Final = 8

Message = dict[str, Any]  # JSON to the page


def row_of(index: KeyIndex, row: int, marked: Container[str | None]) -> list[Any]:
    """Return row number, label, size in words and in bytes, time, 0 to 2 for the key, and whether it is marked."""
    entry = index.entry(row)
    known = 0 if entry.key is None else 2 if entry.ambiguous else 1
    size, time = human_size(entry.size), human_time(entry.modified)
    return [row, label_of(entry, LABEL), size, entry.size, time, known, int(entry.key in marked)]


def folders_of(index: KeyIndex, above: str, following: int) -> Message:
    """Return the folders right below one."""
    level = index.level(above, following=following)
    folders = [
        [one.path, visible(one.path[len(above) :]), f"{one.keys:,}", keys_and_size(one.keys, one.size), one.leaf]
        for one in level.folders
    ]
    return {"folder": above, "folders": folders, "following": level.following}


def overview_of(index: KeyIndex, above: str, marked: Container[str | None]) -> Message:
    """Return where the space is below a folder, and the newest keys there."""
    folders = sorted(index.level(above).folders, key=lambda one: -one.size)[:_OVERVIEW_ROWS]
    whole = max([1, *(one.size for one in folders)])
    newest = index.rows(Query(folder=above, sort="modified", descending=True))[:_OVERVIEW_ROWS]
    lines = [row_of(index, int(row), marked) for row in newest]
    bars = [
        [one.path, visible(one.path[len(above) :]), keys_and_size(one.keys, one.size), one.size / whole]
        for one in folders
    ]
    return {"folder": above, "folders": bars, "newest": [line for line in lines if line[4]]}


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
