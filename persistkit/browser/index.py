"""KeyIndex: a whole listing in a few NumPy columns, with its pages, sort orders, searches and folders."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from persistkit.backend import Entry
from persistkit.browser.patterns import glob_pattern, substring_pattern

__all__ = ["Folder", "IndexBuilder", "KeyIndex", "Level", "Query", "Rows"]

Rows = npt.NDArray[np.int32]
Long = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_TIME: Final = -(2**63)
_CHUNK_ROWS: Final = 16384  # keeps what a search or a sort needs for a moment to a few megabytes
_REMEMBERED: Final = 4
_KNOWN: Final = 1
_AMBIGUOUS: Final = 2


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows, and in which order.

    Attributes:
        text: what to look for; empty for everything.
        match: ``substring``, ``prefix`` or ``glob`` (over the whole key). Case counts.
        folder: only keys that start with this text.
        sort: ``key``, ``size`` or ``modified``.
        descending: largest first; rows that tie stay in the order of their keys.
    """

    text: str = ""
    match: str = "substring"
    folder: str = ""
    sort: str = "key"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """All keys that start with ``path``, which ends in ``:`` or ``/``."""

    path: str
    keys: int
    size: int


@dataclass(frozen=True, slots=True)
class Level:
    """The folders right below one folder.

    Attributes:
        folders: in the order of their paths.
        keys: how many keys lie here directly, in no folder.
        following: where to go on, or None when ``folders`` is complete.
    """

    folders: tuple[Folder, ...]
    keys: int
    following: int | None


class IndexBuilder:
    """Collects the entries of a listing, then makes the index; about 50 bytes a key of 24 bytes meanwhile."""

    def __init__(self) -> None:
        self._block = bytearray()
        self._starts = array("q", [0])
        self._sizes = array("q")
        self._modified = array("q")
        self._flags = bytearray()

    def __len__(self) -> int:
        return len(self._flags)

    def add(self, entry: Entry) -> None:
        """Take one entry; one without a key is held under its filename."""
        text = entry.filename if entry.key is None else entry.key
        self._block += text.encode("utf-8", "surrogateescape")
        self._block.append(0)
        self._starts.append(len(self._block))
        self._sizes.append(entry.size)
        self._modified.append(_NO_TIME if entry.modified is None else (entry.modified - _EPOCH) // _MICROSECOND)
        self._flags.append((entry.key is not None) * _KNOWN + entry.ambiguous * _AMBIGUOUS)

    def finish(self) -> KeyIndex:
        """Return the index of everything that was added."""
        block = np.frombuffer(bytes(self._block) + bytes(8), dtype=np.uint8)
        self._block.clear()
        starts = np.array(self._starts, dtype=np.int64)
        order = _text_order(block, starts)
        block, starts = _reordered(block, starts, order)
        return KeyIndex(
            block,
            starts,
            np.array(self._sizes, dtype=np.int64)[order],
            np.array(self._modified, dtype=np.int64)[order],
            np.frombuffer(bytes(self._flags), dtype=np.uint8)[order],
        )


class KeyIndex:
    """Every entry of a listing: row 0 has the smallest key, by its UTF-8 bytes.

    Nothing here is an object a key; a page makes the few entries it shows. Immutable, safe to share by threads.

    Example:
        >>> index = KeyIndex.of([Entry("run:2", 5, None, "run_2"), Entry("run:1", 9, None, "run_1")])
        >>> [index.entry(row).key for row in index.rows(Query(sort="size"))]
        ['run:2', 'run:1']
    """

    def __init__(self, block: Bytes, starts: Long, sizes: Long, modified: Long, flags: Bytes) -> None:
        self._block = block
        self._starts = starts
        self._columns = {"size": sizes, "modified": modified}
        self._flags = flags
        self._size_before = np.concatenate(([0], np.cumsum(sizes)))
        self._depths = _last_separators(block, starts)
        self._orders: dict[tuple[str, bool], Rows] = {}
        self._results: OrderedDict[Query, Rows] = OrderedDict()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> KeyIndex:
        """Return the index of ``entries``."""
        builder = IndexBuilder()
        for entry in entries:
            builder.add(entry)
        return builder.finish()

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def size_bytes(self) -> int:
        """The size of all values together."""
        return int(self._size_before[-1])

    def entry(self, row: int) -> Entry:
        """Return the entry of one row."""
        text = self._text(row).decode("utf-8", "surrogateescape")
        flags, modified = int(self._flags[row]), int(self._columns["modified"][row])
        return Entry(
            key=text if flags & _KNOWN else None,
            size=int(self._columns["size"][row]),
            modified=None if modified == _NO_TIME else _EPOCH + modified * _MICROSECOND,
            stored_as=None if flags & _KNOWN else text,
            ambiguous=bool(flags & _AMBIGUOUS),
        )

    def find(self, key: str) -> int | None:
        """Return the row of ``key``, or None when it is not listed."""
        return self._find(key, known=True)

    def find_entry(self, entry: Entry) -> int | None:
        """Return the row where what ``entry`` shows is listed now, or None."""
        return self._find(entry.filename if entry.key is None else entry.key, known=entry.key is not None)

    def rows(self, query: Query) -> Rows:
        """Return the rows that fit ``query``, in its order; the last few answers are remembered."""
        known = self._results.pop(query, None)
        rows = self._select(query) if known is None else known
        self._results[query] = rows
        while len(self._results) > _REMEMBERED:
            self._results.popitem(last=False)
        return rows

    def size_of(self, rows: Rows) -> int:
        """Return the size of the values of ``rows`` together."""
        return self.size_bytes if len(rows) == len(self) else int(self._columns["size"][rows].sum())

    def level(self, folder: str = "", *, following: int = 0, limit: int = 200) -> Level:
        """Return the next ``limit`` folders right below ``folder``, with the number and size of their keys."""
        path = folder.encode("utf-8", "surrogateescape")
        first, last = self._span(path)
        deeper = np.flatnonzero(self._depths[first:last] >= len(path)) + first
        folders: list[Folder] = []
        position = int(np.searchsorted(deeper, following))
        while position < len(deeper) and len(folders) < limit:
            text = self._text(int(deeper[position]))
            ends = [end for end in (text.find(b":", len(path)), text.find(b"/", len(path))) if end >= 0]
            child = text[: min(ends) + 1]
            begin, end = self._span(child)
            size = int(self._size_before[end] - self._size_before[begin])
            folders.append(Folder(child.decode("utf-8", "surrogateescape"), end - begin, size))
            position = int(np.searchsorted(deeper, end))
        rest = int(deeper[position]) if position < len(deeper) else None
        return Level(tuple(folders), last - first - len(deeper), rest)

    def _text(self, row: int) -> bytes:
        return self._block[self._starts[row] : self._starts[row + 1] - 1].tobytes()

    def _find(self, text: str, *, known: bool) -> int | None:
        wanted = text.encode("utf-8", "surrogateescape")
        row = bisect_left(range(len(self)), wanted, key=self._text)
        while row < len(self) and self._text(row) == wanted:  # a filename may also be somebody's key
            if bool(self._flags[row] & _KNOWN) == known:
                return row
            row += 1
        return None

    def _span(self, prefix: bytes) -> tuple[int, int]:
        """Return the first row that starts with ``prefix`` and the first after it."""
        if not prefix:
            return 0, len(self)
        width = len(prefix)

        def start_of(row: int) -> bytes:
            return self._text(row)[:width]

        first = bisect_left(range(len(self)), prefix, key=start_of)
        # No UTF-8 text goes on with the byte 0xFF.
        return first, bisect_left(range(len(self)), prefix + b"\xff", lo=first, key=lambda row: self._text(row))

    def _select(self, query: Query) -> Rows:
        first, last = self._span(query.folder.encode("utf-8", "surrogateescape"))
        if "\0" in query.text:
            return np.empty(0, dtype=np.int32)
        if query.text and query.match == "prefix":
            begin, end = self._span(query.text.encode("utf-8", "surrogateescape"))
            first, last = max(first, begin), min(last, end)
        if not query.text or query.match == "prefix":
            if last - first == len(self):
                return self._order(query.sort, descending=query.descending)
            chosen = np.arange(first, max(first, last), dtype=np.int32)
        else:
            chosen = self._matching(query, first, last)
        return self._sorted(chosen, query)

    def _sorted(self, chosen: Rows, query: Query) -> Rows:
        if query.sort == "key":
            return chosen[::-1] if query.descending else chosen
        if len(chosen) * 8 < len(self):
            values = self._columns[query.sort][chosen]
            return chosen[np.argsort(~values if query.descending else values, kind="stable")]
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[chosen] = True
        order = self._order(query.sort, descending=query.descending)
        return order[wanted[order]]

    def _order(self, sort: str, *, descending: bool) -> Rows:
        if sort == "key":
            rows = np.arange(len(self), dtype=np.int32)
            return rows[::-1] if descending else rows
        order = self._orders.get((sort, descending))
        if order is None:
            values = self._columns[sort]
            # ~x falls as x rises, also for the smallest integer, where -x would overflow.
            order = np.argsort(~values if descending else values, kind="stable").astype(np.int32)
            self._orders[sort, descending] = order
        return order

    def _matching(self, query: Query, first: int, last: int) -> Rows:
        pattern = glob_pattern(query.text) if query.match == "glob" else substring_pattern(query.text)
        parts = []
        for begin in range(first, last, _CHUNK_ROWS):
            end = min(begin + _CHUNK_ROWS, last)
            starts = self._starts[begin : end + 1]
            mask = pattern.matches(self._block[starts[0] : starts[-1]], starts - starts[0])
            parts.append((np.flatnonzero(mask) + begin).astype(np.int32))
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def _text_order(block: Bytes, starts: Long) -> Long:
    """Return the order of the texts by their bytes: eight bytes at a time, and only where texts still tie."""
    words_at: npt.NDArray[np.uint64] = np.ndarray((max(block.size - 7, 0),), ">u8", block, strides=(1,))
    order = np.arange(starts.size - 1, dtype=np.int64)
    tied = order.copy()  # places in the order that are not decided yet
    groups = np.zeros(tied.size, dtype=np.int64)
    depth = 0
    while tied.size:
        rows = order[tied]
        begin = starts[rows] + depth
        spare = (8 * np.clip(8 - (starts[rows + 1] - begin), 0, 7)).astype(np.uint64)  # bytes of the next text
        words = (words_at[begin].astype(np.uint64) >> spare) << spare
        ranks = np.lexsort((words, groups)) if groups[-1] else np.argsort(words, kind="stable")
        order[tied] = rows[ranks]
        words, groups = words[ranks], groups[ranks]
        changed = np.concatenate(([True], (words[1:] != words[:-1]) | (groups[1:] != groups[:-1]), [True]))
        # A word whose last byte is NUL has reached its text's end: equal words there are equal texts.
        open_ = ~(changed[:-1] & changed[1:]) & (words & np.uint64(255) != 0)
        groups = np.cumsum(changed[:-1])[open_]
        groups -= groups[0] if groups.size else 0
        tied = tied[open_]
        depth += 8
    return order


def _reordered(block: Bytes, starts: Long, order: Long) -> tuple[Bytes, Long]:
    """Return the block with its texts in ``order``, and their starts."""
    lengths = np.diff(starts)[order]
    placed = np.concatenate(([0], np.cumsum(lengths)))
    result = np.empty(int(placed[-1]), dtype=np.uint8)
    for begin in range(0, len(order), _CHUNK_ROWS):
        end = min(begin + _CHUNK_ROWS, len(order))
        base, stop = int(placed[begin]), int(placed[end])
        shift = starts[order[begin:end]] - (placed[begin:end] - base)
        result[base:stop] = block[np.repeat(shift, lengths[begin:end]) + np.arange(stop - base)]
    return result, placed


def _last_separators(block: Bytes, starts: Long) -> npt.NDArray[np.int16]:
    """Return where in each text its last ``:`` or ``/`` stands, -1 when it has none."""
    depths = np.full(starts.size - 1, -1, dtype=np.int16)
    for begin in range(0, depths.size, _CHUNK_ROWS):
        end = min(begin + _CHUNK_ROWS, depths.size)
        part = block[starts[begin] : starts[end]]
        places = np.flatnonzero((part == ord(":")) | (part == ord("/"))) + starts[begin]
        rows = np.searchsorted(starts, places, side="right") - 1
        depths[rows] = places - starts[rows]  # of several places of one row the last stays
    return depths
