"""Entry: one stored value, as a listing shows it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from persistkit.keys import filename_for

__all__ = ["Entry"]


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
