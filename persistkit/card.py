"""The card a store shows of itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from html import escape
from time import monotonic

from persistkit.backend import Entry
from persistkit.text import human_size, visible

__all__ = ["card", "card_of_error"]

_SHOWN_CHARACTERS = 80
_LOOK_EVERY = 1_000


def card(address: str, entries: Iterable[Entry], rows: int, seconds: float = 2.0) -> str:
    """Return place, number of keys, total size, newest change and the first rows as HTML, everything escaped.

    One pass in constant memory, so a store of a million keys gives a card of the same size; one that takes more
    than so many ``seconds`` after the first entry stops, and the card says so.
    """
    tally = _Tally(seconds)
    first = nsmallest(rows, tally.counting(entries), key=lambda entry: (entry.key is None, entry.key or entry.filename))
    body = "".join(
        f'<tr><td style="text-align:left;overflow-wrap:anywhere">{_shown(entry)}</td>'
        f"<td>{human_size(entry.size)}</td><td>{_moment(entry)}</td></tr>"
        for entry in first
    )
    more = tally.keys - len(first)
    least = "at least " if tally.stopped else ""
    rest = f'<div style="opacity:.7">… and {least}{more:,} more</div>' if more > 0 else ""
    newest = _moment(tally.newest) if tally.newest is not None else "never"
    head = '<th style="text-align:left">key</th><th>size</th><th>modified</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    about = f"{tally.keys:,} {'key' if tally.keys == 1 else 'keys'}, {human_size(tally.size)}, newest change {newest}"
    if tally.stopped:
        about = (
            f"at least {tally.keys:,} keys, {human_size(tally.size)}: counted for {seconds:g} seconds; "
            "len(store) counts all, store.browse() shows them"
        )
    return _framed(address, about, f"{table if first else ''}{rest}")


def card_of_error(address: str, error: Exception) -> str:
    """Return the card of a store that cannot be listed: where it is, and why not."""
    return _framed(address, str(error), "")


def _framed(address: str, about: str, body: str) -> str:
    return (
        '<div style="color:inherit;border:1px solid color-mix(in srgb,currentColor 30%,transparent);'
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
        self.newest: Entry | None = None
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
            self.size += entry.size
            if entry.modified is not None and (
                self.newest is None or self.newest.modified is None or entry.modified > self.newest.modified
            ):
                self.newest = entry
            yield entry


def _moment(entry: Entry) -> str:
    return "" if entry.modified is None else f"{entry.modified:%Y-%m-%d %H:%M:%S} UTC"


def _shown(entry: Entry) -> str:
    text = f"{entry.filename} (key not known)" if entry.key is None else entry.key
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
    return escape(visible(text)) or "<em>(empty key)</em>"
