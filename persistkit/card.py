"""The card a store shows of itself in a notebook."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from heapq import nsmallest
from html import escape
from itertools import islice
from pathlib import Path
from time import monotonic

from persistkit.entry import Entry, known_size, known_time
from persistkit.keys import is_filename
from persistkit.text import human_size, human_time, keys_and_size, label_of, visible

__all__ = ["card", "card_of_error"]

_SHOWN_CHARACTERS = 80
_LOOK_EVERY = 1_000
_CELL = "padding:.2em .8em;text-align:"  # not every page that shows it has a style for tables


def card(address: str, entries: Iterable[Entry], rows: int, seconds: float = 2.0, folder: Path | None = None) -> str:
    """Return place, number of keys, total size, newest change and the first rows as HTML, everything escaped.

    One pass in constant memory, so a store of a million keys gives a card of the same size; one that takes more
    than so many ``seconds`` after the first entry stops, and the card says so. Of a ``folder`` without values the card
    says where in it there are some.
    """
    tally = _Tally(seconds)
    first = nsmallest(rows, tally.counting(entries), key=lambda entry: (entry.key is None, entry.key or entry.filename))
    body = "".join(
        f'<tr><td style="{_CELL}left;overflow-wrap:anywhere">{_shown(entry)}</td>'
        f'<td style="{_CELL}right">{human_size(known_size(entry.size))}</td>'
        f'<td style="{_CELL}right">{_moment(known_time(entry.modified))}</td></tr>'
        for entry in first
    )
    more = tally.keys - len(first)
    least = "at least " if tally.stopped else ""
    rest = f'<div style="opacity:.7">… and {least}{more:,} more</div>' if more > 0 else ""
    head = "".join(
        f'<th style="{_CELL}{side}">{name}</th>'
        for name, side in (("key", "left"), ("size", "right"), ("modified", "right"))
    )
    table = f"<table style='border-collapse:collapse'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    about = f"{least}{keys_and_size(tally.keys, tally.size)}"
    if tally.stopped:
        about += f": counted for {seconds:g} seconds; len(store) counts all, store.browse() shows them"
    else:
        about += f", newest change {_moment(tally.newest) or 'never'}"
    if folder is not None and not tally.keys:
        about += _elsewhere(address, folder)
    if tally.ambiguous:
        about += f"; {tally.ambiguous:,} marked ?: another key has the same filename, store.alternatives(key) tells it"
    return _framed(address, about, f"{table if first else ''}{rest}")


def _elsewhere(address: str, folder: Path) -> str:
    """Say what else is in a folder without values: other programs' files, and where values are."""
    try:
        with os.scandir(folder) as children:
            others = [child for child in islice(children, _LOOK_EVERY) if not child.name.startswith(".")]
        places = sorted(child.name for child in others if _holds_values(child))
    except OSError:  # a hint only
        return ""
    if not others:
        return ""
    told = "; what is in this folder is of other programs"
    if places:
        more = f" (also {', '.join(map(repr, places[1:4]))})" if places[1:] else ""
        told += f", and {places[0]!r} in it holds values{more}: persistkit.open({f'{address}/{places[0]}'!r})"
    return told


def _holds_values(child: os.DirEntry[str]) -> bool:
    if not child.is_dir(follow_symlinks=False):
        return child.name.lower().endswith((".db", ".sqlite", ".sqlite3"))
    with os.scandir(child.path) as files:
        return any(is_filename(file.name) for file in islice(files, _LOOK_EVERY))


def card_of_error(address: str, error: Exception) -> str:
    """Return the card of a store that cannot be listed: where it is, and why not."""
    return _framed(address, str(error), "")


def _framed(address: str, about: str, body: str) -> str:
    return (
        '<div class="tex2jax_ignore mathjax_ignore" '
        'style="color:inherit;border:1px solid color-mix(in srgb,currentColor 30%,transparent);'
        'border-radius:4px;padding:.6em .9em;display:inline-block;max-width:100%">'
        f'<div style="overflow-wrap:anywhere"><strong>Store</strong> {escape(visible(address))}</div>'
        f'<div style="opacity:.8;overflow-wrap:anywhere">{escape(visible(about))}</div>{body}</div>'
    )


class _Tally:
    """What passes by within so many seconds, counted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.keys = 0
        self.size = 0
        self.ambiguous = 0
        self.newest: datetime | None = None
        self.stopped = False

    def counting(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        stop = None
        for entry in entries:
            if self.keys % _LOOK_EVERY == 0:
                # From the first entry on: a directory is scanned whole before it gives one.
                stop = stop or monotonic() + self._seconds
                if monotonic() > stop:
                    self.stopped = True
                    return
            self.keys += 1
            self.size += known_size(entry.size)
            self.ambiguous += entry.ambiguous
            modified = known_time(entry.modified)
            if modified is not None and (self.newest is None or modified > self.newest):
                self.newest = modified
            yield entry


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{human_time(moment)} UTC"


def _shown(entry: Entry) -> str:
    shown = escape(label_of(entry, _SHOWN_CHARACTERS)) or "<em>(empty key)</em>"
    if entry.key is None:
        return f"{shown} (key not known)"
    return f'{shown} <strong title="another key has the same filename">?</strong>' if entry.ambiguous else shown
