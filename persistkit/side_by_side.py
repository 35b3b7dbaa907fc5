"""Side by side: the differences of two values as a static HTML table, light and dark, everything escaped."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from html import escape
from itertools import islice
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import pandas as pd

from persistkit.text import visible

if TYPE_CHECKING:
    from persistkit.diff import Diff

__all__ = ["ShownRow", "shown_rows", "side_by_side"]

_SHOWN_ROWS: Final = 200
_SHOWN: Final = 400
_AROUND: Final = 40
_LEAST_LIKE: Final = 0.3
_WORD: Final = re.compile(r"\w+|\s+|.")

_CELL: Final = "text-align:left;vertical-align:top;padding:.2em .6em;white-space:pre-wrap;overflow-wrap:anywhere"
_CODE: Final = f"{_CELL};font-family:var(--jp-code-font-family,monospace)"
_DIM: Final = "opacity:.75;white-space:normal"
_TINT: Final = "background:color-mix(in srgb,{} {}%,transparent)"
_COLORS: Final = {"del": "#e5484d", "ins": "#30a46c"}

_repr: Final = Repr()
_repr.maxlevel, _repr.maxdict, _repr.maxlist, _repr.maxtuple = 4, 12, 12, 12
_repr.maxstring = _repr.maxother = _repr.maxlong = _SHOWN


Parts: TypeAlias = list[tuple[str, bool]]  # of a text, each with whether the other side lacks it


class ShownRow(NamedTuple):
    """One difference as people read it; a side that has nothing is None.

    Attributes:
        path: where.
        change: what, when it is more than another value.
        left: of the left value.
        right: of the right value.
    """

    path: str
    change: str
    left: Parts | None
    right: Parts | None


def shown_rows(diff: Diff) -> tuple[list[ShownRow], list[str]]:
    """Return the first rows as people read them, and the notes below, which say how many are left out."""
    rows = []
    for path, left, right, change in islice(diff.itertuples(index=False, name=None), _SHOWN_ROWS):
        ours, theirs = _marked(*_texts(left, right))
        sides = (None if change == "added" else ours, None if change == "removed" else theirs)
        rows.append(ShownRow(visible(path), "" if change == "changed" else change, *sides))
    notes = [visible(note) for note in diff.notes]
    if len(diff) > _SHOWN_ROWS:
        notes.append(f"Shown are the first {_SHOWN_ROWS:,} of {len(diff):,} rows; the frame has them all.")
    return rows, notes


def side_by_side(diff: Diff) -> str:
    """Return the first rows as HTML of bounded size, what differs within them marked."""
    shown, notes = shown_rows(diff)
    names = ["where", *(visible(name) for name in diff.attrs["names"])]
    head = "".join(f'<th scope="col" style="{_CELL};min-width:12em">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><td style="{_CODE}">{escape(path)}<div style="{_DIM}">{escape(change)}</div></td>'
        f"{_side('del', left)}{_side('ins', right)}</tr>"
        for path, change, left, right in shown
    )
    count = f"{len(diff):,} {'difference' if len(diff) == 1 else 'differences'}" if shown else "No differences."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if shown else ""
    said = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return (
        '<div class="tex2jax_ignore mathjax_ignore" style="color:inherit;max-width:100%;overflow-x:auto">'
        f'<div><strong>{count}</strong></div><div style="{_DIM}">{said}</div>{table}</div>'
    )


def _side(tag: str, parts: Parts | None) -> str:
    if parts is None:
        return f'<td style="{_CELL}"></td>'
    mark = f"color:inherit;text-decoration:none;border-radius:2px;{_TINT.format(_COLORS[tag], 40)}"
    text = "".join(
        f'<{tag} style="{mark}">{escape(part)}</{tag}>' if marked else escape(part) for part, marked in parts
    )
    return f'<td style="{_CODE};{_TINT.format(_COLORS[tag], 14)}">{text}</td>'


def _texts(left: Any, right: Any) -> tuple[str, str]:
    """Return both sides as text, from shortly before the first difference on."""
    sides = [value for value in (left, right) if value is not pd.NA]
    as_written = all(isinstance(value, str) for value in sides)
    one, other = ("" if value is pd.NA else value if as_written else _repr.repr(value) for value in (left, right))
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, start - _AROUND)
    return _cut(one, start), _cut(other, start)


def _cut(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN]
    return f"{'…' if start and cut else ''}{visible(cut, lines=True)}{'…' if start + _SHOWN < len(text) else ''}"


def _marked(left: str, right: str) -> tuple[Parts, Parts]:
    """Return the parts of both texts, and whether each is not in the other; nothing is marked beside nothing."""
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    matcher = SequenceMatcher(None, ours, theirs)
    if matcher.quick_ratio() < _LEAST_LIKE or matcher.ratio() < _LEAST_LIKE:
        both = bool(left and right)
        return [(left, both)], [(right, both)]
    changes = matcher.get_opcodes()
    return (
        [("".join(ours[i:j]), tag != "equal") for tag, i, j, _, _ in changes if i < j],
        [("".join(theirs[k:m]), tag != "equal") for tag, _, _, k, m in changes if k < m],
    )
