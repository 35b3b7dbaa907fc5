"""Reports: what can be asked of all of a store at once; tables, copies, comparisons and the browser."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from persistkit.engine import Engine
from persistkit.errors import PersistenceError
from persistkit.formats import format_of
from persistkit.keys import alternatives
from persistkit.matching import matching_keys
from persistkit.progress import load_in_batches
from persistkit.views import Errors, check_errors

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.browser import KeyBrowser
    from persistkit.transfer import CopyReport, Overwrite, Place

__all__ = ["Reports"]

_CARD_ROWS: Final = 8


class Reports:
    """The part of a store that overlooks all of it.

    Attributes:
        engine: where the bytes are.
        read_only: whether every write is refused.
        address: the name of the place.
    """

    engine: Engine
    read_only: bool
    address: str
    _prefix: str

    def glob(self, pattern: str) -> list[str]:
        """Return the known keys that match ``pattern`` (``*``, ``?``, ``[...]``; ``*`` crosses ``/`` and ``:``).

        Raises:
            TypeError: ``pattern`` is not text.
        """
        return matching_keys(self.engine, pattern)

    def to_frame(self, *, prefix: str = "", glob: str | None = None, formats: bool = False) -> pd.DataFrame:
        """Return one row for everything stored, as ``persistkit.to_frame``.

        Args:
            prefix: literal text the keys start with.
            glob: a pattern the keys match.
            formats: add a column ``format``; every value is read for it.
        """
        from persistkit.frames import entries_frame, text_column

        entries = self.engine.entries(prefix)
        if glob is not None:
            entries = (entry for entry in entries if entry.key is not None and fnmatchcase(entry.key, glob))
        frame = entries_frame(entries)
        if formats:
            keys = frame["key"].dropna().tolist()  # those of unknown key come last
            named = [None if data is None else format_of(data, key) for key, data in load_in_batches(self.engine, keys)]
            frame["format"] = text_column(named + [None] * (len(frame) - len(keys)))
        return frame

    def values_frame(self, glob: str = "*", errors: Errors = "skip") -> pd.DataFrame:
        """Return the JSON objects of the keys that match ``glob`` as rows, nested ones as dotted columns.

        The index is the key. A column starts where the first object that has it does; where an object lacks it, or
        holds null, is a gap. Whole numbers stay whole beside gaps (Int64), truth values too (boolean), and numbers
        beyond 2**53 are never rounded (object).

        Args:
            glob: which keys.
            errors: what a value that is no JSON object does: be left out and named in ``.attrs["skipped"]``, key ->
                reason (``"skip"``), ``"raise"`` a ``FormatError``, or be a row with its bytes in the column ``bytes``
                (``"bytes"``). An object that would make more than 10,000 columns, or a table almost empty, is left
                out and named like that unless errors are raised.
        """
        from persistkit.frames import values_frame

        check_errors(errors)
        return values_frame(self.engine, self.glob(glob), errors)

    def usage(self, depth: int = 1, separators: str = ":/") -> pd.DataFrame:
        """Return keys and bytes under each prefix of ``depth`` parts, ended by ``separators``, the largest first."""
        from persistkit.frames import usage_frame

        return usage_frame(self.engine.entries(), depth=depth, separators=separators)

    def copy_to(
        self,
        other: Place,
        *,
        prefix: str = "",
        overwrite: Overwrite = "error",
        verify: bool = True,
        progress: bool = True,
    ) -> CopyReport:
        """Copy every value whose key starts with ``prefix`` to another store; see ``persistkit.transfer.copy``."""
        from persistkit.transfer import copy

        return copy(self.engine, other, prefix=prefix, overwrite=overwrite, verify=verify, progress=progress)

    def compare(self, other: Place, *, prefix: str = "") -> pd.DataFrame:
        """Return a row for each difference from ``other`` under ``prefix``; see ``persistkit.transfer.compare``."""
        from persistkit.transfer import compare

        return compare(self.engine, other, prefix=prefix)

    def browse(self, *, read_only: bool = True) -> KeyBrowser:
        """Return a browser of all keys, for display in a notebook; ``read_only=False`` lets it delete."""
        from persistkit.browser import browse

        return browse(self, read_only=read_only or self.read_only, load_line="store[{key}]")

    def alternatives(self, key: str) -> list[str]:
        """Return the other keys with the filename of ``key``: to one of them an ``ambiguous`` value may belong instead.

        Example:
            >>> import persistkit
            >>> persistkit.open("memory:").alternatives("a>_")
            ['a?>']
        """
        whole = alternatives(self._prefix + key)
        return [other.removeprefix(self._prefix) for other in whole if other.startswith(self._prefix)]

    def _repr_html_(self) -> str:
        from persistkit.card import card, card_of_error

        try:
            return card(self.address, self.engine.entries(), _CARD_ROWS)
        except PersistenceError as error:  # a notebook would print its whole traceback
            return card_of_error(self.address, error)

    def _ipython_key_completions_(self) -> list[str]:
        """Offer the keys when a person presses Tab after ``store["`` in IPython or a notebook."""
        try:
            return self.engine.list_keys()
        except PersistenceError:  # IPython would print its whole traceback at every Tab
            return []
