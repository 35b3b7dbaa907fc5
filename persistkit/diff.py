"""Diff: where two values differ, as a table and side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any, Final, TypeAlias

import pandas as pd

from persistkit.differences import Comparison
from persistkit.frames import text_column

__all__ = ["Action", "Diff", "diff_values", "parting"]

# What a step of a run did, and what came of it.
Action: TypeAlias = tuple[str, Any]

_MOST_ROWS: Final = 10_000
_SHOWN: Final = 120


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
        from persistkit.side_by_side import side_by_side

        return side_by_side(self)


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
    return f"{action[:_SHOWN]!r}" + ("…" if len(action) > _SHOWN else "")
