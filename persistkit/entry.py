"""Entry: one stored value, as a listing shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from persistkit.keys import filename_for

__all__ = ["CHANGED", "Entry", "known_size", "known_time", "sorted_out"]

# Why a value that was to go was kept.
CHANGED: Final = "was changed after it was listed: look at it again first"

_MOST_BYTES: Final = 2**63 - 1


class Entry(NamedTuple):
    """One stored value, as a listing shows it.

    Attributes:
        key: the true key, or None when it cannot be known.
        size: of the value, in bytes.
        modified: when the value was last saved, aware and in UTC; None where the engine keeps no time.
        stored_as: the filename it is stored under; None for the one the rule gives.
        ambiguous: several keys share this filename and nothing on disk tells which; ``key`` is the likeliest.
    """

    key: str | None
    size: int
    modified: datetime | None
    stored_as: str | None = None
    ambiguous: bool = False

    @property
    def filename(self) -> str:
        """The hashed filename of the key, by the same rule on every engine; empty when it cannot be known."""
        if self.stored_as is not None or self.key is None:
            return self.stored_as or ""
        return filename_for(self.key)


def sorted_out(seen: Mapping[str, Entry], present: Iterable[Entry]) -> tuple[list[str], dict[str, str]]:
    """Return which of the keys that were ``seen`` are ``present`` with the same size and time, and why others stay."""
    same: list[str] = []
    kept: dict[str, str] = {}
    for entry in present:
        if entry.key is not None and entry.key in seen:
            now, then = ((known_size(one.size), known_time(one.modified)) for one in (entry, seen[entry.key]))
            if now == then:
                same.append(entry.key)
            else:
                kept[entry.key] = CHANGED
    return same, kept


def known_size(size: object) -> int:
    """Return the size of an entry as 64 bits hold it: nothing below 0, and 0 where the engine gave no number."""
    return min(max(size, 0), _MOST_BYTES) if isinstance(size, int) else 0


def known_time(moment: object) -> datetime | None:
    """Return the time of an entry in UTC, which a time without zone counts as; None where the engine gave none."""
    if not isinstance(moment, datetime):
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):  # not between the years 1 and 9999
        return None
