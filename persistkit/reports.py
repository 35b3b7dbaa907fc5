"""Reports: what can be asked of all of a store at once; tables, copies, comparisons and the browser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from persistkit.errors import PersistenceError
from persistkit.formats import format_of
from persistkit.keys import alternatives
from persistkit.mapping import StoreMapping
from persistkit.progress import load_in_batches
from persistkit.selection import Selection
from persistkit.views import Errors, T, check_errors, value_or_bytes

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.browser import KeyBrowser
    from persistkit.diff import Diff
    from persistkit.transfer import CopyReport, Overwrite, Place

__all__ = ["Reports"]

_CARD_ROWS: Final = 8


class Reports(StoreMapping[T]):
    """The part of a store that overlooks all of it."""

    def to_frame(
        self,
        *,
        keys: Iterable[str] | None = None,
        prefix: str = "",
        glob: str | None = None,
        formats: bool = False,
    ) -> pd.DataFrame:
        """Return one row for everything stored, as ``persistkit.to_frame``.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        Those of ``keys`` that are not there have no row; those of unknown key have one when everything is asked for.
        With ``formats`` there is a column ``format``; every value is read for it.
        """
        from persistkit.frames import entries_frame, text_column

        frame = entries_frame(Selection(keys, prefix, glob).entries(self.engine))
        if formats:
            known = frame["key"].dropna().tolist()  # those of unknown key come last
            loaded = load_in_batches(self.engine, known)
            named = [None if data is None else format_of(data, key) for key, data in loaded]
            frame["format"] = text_column(named + [None] * (len(frame) - len(known)))
        return frame

    def values_frame(
        self,
        glob: str | None = None,
        errors: Errors = "skip",
        *,
        keys: Iterable[str] | None = None,
        prefix: str = "",
    ) -> pd.DataFrame:
        """Return the stored JSON objects as rows, nested ones as dotted columns.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        The index is the key: ``keys`` in their order, or else sorted. A column starts where the first object that has
        it does; where an object lacks it, or holds null, is a gap. Whole numbers stay whole beside gaps (Int64), truth
        values too (boolean), and numbers beyond 2**53 are never rounded (object).

        ``errors`` says what a value that is no JSON object does: be left out and named in ``.attrs["skipped"]``, key ->
        reason (``"skip"``), ``"raise"`` a ``FormatError``, or be a row with its bytes in the column ``bytes``
        (``"bytes"``). Left out and named are also one of ``keys`` that is not there and, unless errors are raised, an
        object that would make more than 10,000 columns, or a table almost empty.

        Where rows are sessions of an agent and others snapshots of the same ones, ``.attrs["note"]`` says so.
        """
        from persistkit.frames import values_frame

        check_errors(errors)
        return values_frame(self.engine, Selection(keys, prefix, glob).named_or_listed(self.engine), errors)

    def search(
        self,
        text: str,
        *,
        regex: bool = False,
        case: bool | None = None,
        keys: Iterable[str] | None = None,
        prefix: str = "",
        glob: str | None = None,
        limit: int = 10_000,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Return the places in stored values where ``text`` is found, one per row, sorted by key.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        Searched are JSON, also inside of texts, JSON Lines, text, and the cells, labels and names of tables; names and
        numbers too, as they are written. One batch of values is in memory at a time.

        Args:
            text: what to look for, within a line unless it has several itself.
            regex: it is a regular expression, of RE2, which none can keep busy for ever.
            case: whether case counts; by default it does where an upper-case letter is in ``text`` (a class of an
                expression, such as that of what is no space, is no letter).
            keys: whole keys.
            prefix: literal text.
            glob: a pattern, as for ``keys()``.
            limit: the most rows.
            progress: show a bar when it takes longer than a second.

        Returns:
            Columns ``key``, ``where`` (``$.a[0]``, ``line 3`` or ``column 'a', row 3``; ``→`` leads into JSON inside of
            a text; lines count from 1, rows from 0) and ``excerpt``. In ``.attrs``: ``complete``, False where there is
            more than ``limit``; ``searched``, how many values; ``skipped``, how many ``arrays``, ``binary`` and
            ``damaged`` ones were not.

        Raises:
            ValueError: ``text`` is empty, not valid Unicode, or no expression of RE2.

        Example:
            >>> import persistkit
            >>> store = persistkit.open("memory:")
            >>> store.update({"run/1": {"error": "out of memory"}, "run/2": {"error": None}})
            >>> store.search("memory").values.tolist()
            [['run/1', '$.error', 'out of memory']]
        """
        from persistkit.search import Pattern, search

        pattern = Pattern(text, regex=regex, case=case)
        return search(self.engine, Selection(keys, prefix, glob), pattern, limit=limit, progress=progress)

    def usage(
        self, depth: int = 1, *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
    ) -> pd.DataFrame:
        """Return columns ``prefix``, ``keys`` and ``size`` (bytes): sums by the first ``depth`` parts of the key.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        The largest come first. A part ends with ``:`` or ``/``, which belongs to it; a key of fewer parts stands for
        itself; unknown keys have a missing prefix.

        Raises:
            ValueError: ``depth`` is below 1.
        """
        from persistkit.frames import usage_frame

        return usage_frame(Selection(keys, prefix, glob).entries(self.engine), depth=depth)

    def copy_to(
        self,
        other: Place,
        *,
        keys: Iterable[str] | None = None,
        prefix: str = "",
        glob: str | None = None,
        overwrite: Overwrite = "error",
        verify: bool = True,
        progress: bool = True,
    ) -> CopyReport:
        """Copy values to another store, byte for byte and with their times; see ``persistkit.transfer.copy``.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.

        Raises:
            TransferError: some keys failed; ``report`` says which and why, and everything else was copied.
        """
        from persistkit.transfer import copy

        options: dict[str, Any] = {"overwrite": overwrite, "verify": verify, "progress": progress}
        return copy(self.engine, other, keys=keys, prefix=prefix, glob=glob, **options)

    def compare(
        self, other: Place, *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None
    ) -> pd.DataFrame:
        """Return a row for each key whose value differs from that in ``other``; see ``persistkit.transfer.compare``.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        """
        from persistkit.transfer import compare

        return compare(self.engine, other, keys=keys, prefix=prefix, glob=glob)

    def diff(self, left: Any, right: Any) -> Diff:
        """Return where two values differ: a DataFrame with ``path``, ``left``, ``right``, side by side in a notebook.

        Text is a key of this store, anything else a value; ``persistkit.diff_values`` takes two texts as values. What
        counts as different, and where it stops: see there. A damaged value is compared as its bytes.

        Raises:
            KeyError: nothing is stored under one of the keys.
            ValueError: a value contains itself.

        Example:
            >>> import persistkit
            >>> store = persistkit.open("memory:")
            >>> store["run:1"], store["run:2"] = {"lr": 0.1, "seed": 7}, {"lr": 0.2, "seed": 7}
            >>> store.diff("run:1", "run:2")
               path left right   change
            0  $.lr  0.1   0.2  changed
        """
        from persistkit.diff import diff_values

        names = [side if isinstance(side, str) else name for side, name in ((left, "left"), (right, "right"))]
        return diff_values(self._side(left), self._side(right), names=(names[0], names[1]))

    def _side(self, side: Any) -> Any:
        return value_or_bytes(side, self.get_bytes(side)) if isinstance(side, str) else side

    def browse(
        self,
        *,
        keys: Iterable[str] | None = None,
        prefix: str = "",
        glob: str | None = None,
        read_only: bool = True,
        height: int = 440,
    ) -> KeyBrowser:
        """Return a browser of the keys, for display in a notebook; ``read_only=False`` lets it delete.

        ``height`` is in pixels; it can be dragged.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        """
        from persistkit.browser import browse

        chosen = Selection(keys, prefix, glob)
        safe = read_only or self.read_only
        return browse(self, selection=chosen, read_only=safe, load_line="store[{key}]", height=height)

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
            return card(self.address, self.engine.entries(), _CARD_ROWS, folder=getattr(self._inner, "base_dir", None))
        except PersistenceError as error:  # a notebook would print its whole traceback
            return card_of_error(self.address, error)

    def _ipython_key_completions_(self) -> list[str]:
        """Offer the keys when a person presses Tab after ``store["`` in IPython or a notebook."""
        try:
            return self.engine.list_keys()
        except PersistenceError:  # IPython would print its whole traceback at every Tab
            return []
