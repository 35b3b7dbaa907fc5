"""Diff: where two values differ, as a table and side by side."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from html import escape
from itertools import islice, zip_longest
from reprlib import Repr
from typing import Any, Final, NamedTuple, TypeAlias

import pandas as pd

from persistkit.differences import Comparison
from persistkit.frames import text_column
from persistkit.text import visible

__all__ = ["Action", "Diff", "ShownRow", "diff_values", "parting", "shown_rows"]

# What a step of a run did, and what came of it.
Action: TypeAlias = tuple[str, Any]
# The parts of a text, each with whether the other side lacks it.
Parts: TypeAlias = list[tuple[str, bool]]

_MOST_ROWS: Final = 10_000
_SAID: Final = 120
_SHOWN_ROWS: Final = 200
_MOST_SHOWN: Final = 400
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
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_SHOWN


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


class Diff(pd.DataFrame):
    """The differences of two values: a DataFrame that a notebook shows side by side.

    One row for each difference, none for equal values. What is made of it (a selection, a sorted copy) is a plain
    DataFrame.

    Columns:

    * ``path`` (str): where, such as ``$.runs[3].loss``; ``$`` is the whole value. The place in the left value, or in
      the right one where the left has nothing there. ``$.notes line 3`` is a line of a text, ``$[16:20]`` a part of
      bytes, ``$.loss[7]`` the row 7 of a table's column.
    * ``left``, ``right`` (object): the two values there; ``<NA>`` where one side has nothing.
    * ``change`` (str): ``changed``, ``removed`` (only left), ``added`` (only right), or ``type int, float``.
    """

    @property
    def notes(self) -> list[str]:
        """What the rows do not say, in sentences: how many cells differ in all, by how much, and what was cut."""
        notes: list[str] = self.attrs["notes"]
        return notes

    @property
    def step(self) -> int | None:
        """The number of the first step in which two runs of an agent did another thing, or had another result.

        None where they never part, and where the values are no runs.
        """
        step: int | None = self.attrs["step"]
        return step

    def __repr__(self) -> str:
        return "\n".join([super().__repr__() if len(self) else "No differences.", *self.notes])

    def _repr_html_(self) -> str:
        return _side_by_side(self)


def diff_values(left: Any, right: Any, *, names: tuple[str, str] = ("left", "right")) -> Diff:
    """Return where two values differ.

    Equal means of the same type too: 1, 1.0 and True differ, while NaN is equal to NaN. Lists and the lines of texts
    are aligned, so what one of them has in addition is one difference; dicts, dataclasses and pydantic models are
    compared by key, sets by item, arrays and tables by cell, tables by the labels of their rows.

    Two runs of the Rust runtime (``session:<id>``) also tell the step at which they part;
    ``persistkit.agents.diff_sessions`` does for every runtime.

    Values of megabytes take seconds: at most 10,000 rows, and 100 for each array or column; ``notes`` says what was
    left out.

    Args:
        left: any value that a store gives back, or that holds such values.
        right: another one.
        names: what the side by side view calls them.

    Raises:
        ValueError: a value contains itself.

    Example:
        >>> diff_values({"lr": 0.1, "tags": ["a", "c"]}, {"lr": 0.2, "tags": ["a", "b", "c"]})
                path  left right   change
        0       $.lr   0.1   0.2  changed
        1  $.tags[1]  <NA>     b    added
    """
    comparison = Comparison()
    rows = list(islice(comparison.rows(left, right), _MOST_ROWS + 1))
    notes = list(dict.fromkeys(comparison.notes))
    if comparison.alignment.by_position:
        notes.append("Some long lists or texts were compared position by position: too many items to align.")
    if len(rows) > _MOST_ROWS:
        del rows[_MOST_ROWS:]
        notes.append(f"There are more than {_MOST_ROWS:,} differences; these are the first.")
    diff = Diff(
        {
            "path": text_column([row.path for row in rows]),
            "left": pd.Series([row.left for row in rows], dtype=object),
            "right": pd.Series([row.right for row in rows], dtype=object),
            "change": text_column([row.change for row in rows]),
        }
    )
    step, sentence = parting(_actions_of(left), _actions_of(right))
    diff.attrs = {"names": list(names), "notes": [*([sentence] if sentence else []), *notes], "step": step}
    return diff


def parting(
    left: Sequence[Action], right: Sequence[Action], numbers: Iterable[int] = range(1, sys.maxsize)
) -> tuple[int | None, str]:
    """Return the number of the step at which two runs part, and a sentence that says how; None where they do not.

    What a run thought before it acted may be worded differently, and does not count.
    """
    pairs = zip_longest(left, right) if left and right else ()
    for step, (one, other) in zip(numbers, pairs, strict=False):
        if one is None or other is None:
            side, more = ("left", other) if one is None else ("right", one)
            return step, f"The runs part at step {step}: the {side} one has ended, the other does {_said(more[0])}."
        if one[0] != other[0]:
            return step, f"The runs part at step {step}: left {_said(one[0])}, right {_said(other[0])}."
        if next(Comparison().rows(one[1], other[1]), None) is not None:
            return step, f"The runs part at step {step}: the same {_said(one[0])} had another result."
    return None, ""


def _actions_of(value: Any) -> list[Action]:
    """Return what the steps of a session of the Rust runtime did; nothing for any other value."""
    steps = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "action" in step for step in steps):
        return []
    return [(str(step["action"]), step.get("observation")) for step in steps]


def _said(action: str) -> str:
    return f"{action[:_SAID]!r}" + ("…" if len(action) > _SAID else "")


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


def _side_by_side(diff: Diff) -> str:
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
    cut = text[start : start + _MOST_SHOWN]
    return f"{'…' if start and cut else ''}{visible(cut, lines=True)}{'…' if start + _MOST_SHOWN < len(text) else ''}"


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
