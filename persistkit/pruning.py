"""Pruning: what is old, or beyond a number or a size, goes; nothing newer than what was looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from persistkit.batches import paged
from persistkit.engine import Engine
from persistkit.entry import Entry, known_size, known_time
from persistkit.progress import Progress
from persistkit.selection import Selection

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Age", "Rules", "prune"]

Age = str | timedelta | datetime
Number = TypeVar("Number", int, float)

# By the first letter of the unit.
_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNIT: Final = "w|weeks?|d|days?|h|hours?|min|minutes?|s|sec|seconds?"
_AGE: Final = re.compile(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*({_UNIT})\s*")
_BATCH: Final = 2_000
# The times of files advance in steps: two values saved within one have the same.
_STEP_SECONDS: Final = 0.02


class Rules:
    """What is to go: what falls under each rule that is given."""

    def __init__(self, older_than: Age | None, keep_last: int | None, max_bytes: float | None) -> None:
        self.began = datetime.now(UTC)
        self._before = None if older_than is None else _moment(older_than, self.began)
        self._keep_last = _number("keep_last", keep_last, Integral)
        self._max_bytes = _number("max_bytes", max_bytes, Real)
        said = [f"saved before {self._before:%Y-%m-%d %H:%M:%S} UTC"] if self._before else []
        said += [f"not among the newest {keep_last:,}"] if keep_last is not None else []
        said += [f"beyond the newest {max_bytes:,} bytes"] if max_bytes is not None else []
        if not said:
            raise ValueError(
                "prune: say what is to go: older_than='30 days', keep_last=10 or max_bytes=10**9; "
                "store.clear() removes all of a selection"
            )
        self.why = ", ".join(said)

    def going(self, listed: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries that are to go, from the newest on."""
        known = [entry for entry in listed if not _why_it_stays(entry)]
        total = 0
        for number, entry in enumerate(sorted(known, key=lambda entry: (_time(entry), entry.key), reverse=True)):
            total += known_size(entry.size)
            if (
                (self._before is None or _time(entry) < self._before)
                and (self._keep_last is None or number >= self._keep_last)
                and (self._max_bytes is None or total > self._max_bytes)
            ):
                yield entry


def prune(engine: Engine, selection: Selection, rules: Rules, *, dry_run: bool, progress: bool) -> pd.DataFrame:
    """Remove old values and tell which: see ``Store.prune``."""
    if not dry_run:
        time.sleep(_STEP_SECONDS)
    listed = list(selection.entries(engine))
    going = list(rules.going(listed))
    rows = [_Row(entry, "stays", reason) for entry in listed if (reason := _why_it_stays(entry))]
    kept: dict[str | None, str] = {}
    if not dry_run:
        kept |= dict.fromkeys((entry.key for entry in going if _time(entry) > rules.began), "was saved just now")
        old = [entry for entry in going if entry.key not in kept]
        with Progress(len(old), "pruning", shown=progress) as bar:
            for batch in paged(old, _BATCH):
                kept.update(engine.delete_unchanged(batch))
                bar.done(len(batch))
    rows += [_Row(entry, "stays", kept[entry.key]) for entry in going if entry.key in kept]
    outcome = "goes" if dry_run else "gone"
    return _table(rows + [_Row(entry, outcome, rules.why) for entry in going if entry.key not in kept])


class _Row(NamedTuple):
    entry: Entry
    outcome: str
    why: str


def _table(rows: list[_Row]) -> pd.DataFrame:
    from persistkit.frames import entries_frame, text_column

    # In the order of entries_frame.
    rows.sort(key=lambda row: (row.entry.key is None, row.entry.key or row.entry.filename))
    frame = entries_frame(row.entry for row in rows)[["key", "size", "modified"]]
    frame["outcome"] = text_column([row.outcome for row in rows])
    frame["why"] = text_column([row.why for row in rows])
    return frame


def _why_it_stays(entry: Entry) -> str:
    if entry.key is None:
        return "its key is not known"
    if entry.ambiguous:
        return "its key is a guess: store.alternatives(key) gives the others"
    return "" if known_time(entry.modified) else "when it was saved is not known"


def _time(entry: Entry) -> datetime:
    return known_time(entry.modified) or datetime.max.replace(tzinfo=UTC)


def _moment(older_than: object, now: datetime) -> datetime:
    """Return the moment before which values are old; a time without zone is in UTC, as in every table."""
    if isinstance(older_than, str):
        found = _AGE.fullmatch(older_than)
        if found is None:
            raise ValueError(
                f"older_than is text such as '30 days', '12 hours' or '2 weeks' (w, d, h, min, s), not {older_than!r}; "
                "for a date write a datetime"
            )
        seconds = float(found[1]) * _SECONDS[found[2][0]]
        older_than = timedelta(seconds=min(seconds, timedelta.max.total_seconds() / 2))
    elif not isinstance(older_than, (timedelta, datetime)):
        kind = type(older_than).__name__
        raise TypeError(f"older_than is text such as '30 days', a timedelta or a datetime, not {kind}")
    try:
        moment = known_time(now - older_than if isinstance(older_than, timedelta) else older_than)
    except OverflowError:
        moment = None
    if moment is None or not moment < now:
        raise ValueError(f"older_than is an age above zero, or a moment in the past, not {older_than!r}")
    return moment


def _number(name: str, number: Number | None, kind: type) -> Number | None:
    if number is not None and (not isinstance(number, kind) or isinstance(number, bool) or not number >= 0):
        whole = "whole " if kind is Integral else ""
        raise ValueError(f"{name} is a {whole}number from 0 on, not {number!r}")
    return number
