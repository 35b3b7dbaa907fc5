"""KeyIndex: a whole listing as a sorted list of keys and a few columns, with its pages, searches and folders."""

from __future__ import annotations

import fnmatch
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import is_
from time import monotonic
from typing import Final

import numpy as np
import numpy.typing as npt

from persistkit.entry import Entry, known_size, known_time
from persistkit.errors import PersistenceError

__all__ = ["Folder", "IndexBuilder", "KeyIndex", "Query", "Rows"]

Rows = npt.NDArray[np.int32]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_TIME: Final = -(2**63)
_MOST_BYTES: Final = 2**63 - 1
_CHUNK_ROWS: Final = 512
_SEARCH_SECONDS: Final = 5.0
_REMEMBERED: Final = 8
_KNOWN: Final = 1
_AMBIGUOUS: Final = 2
_NATURAL_KEYS: Final = 200_000
_NATURAL_ROWS: Final = 20_000
_DIGITS: Final = re.compile(r"[0-9]+")
_WILDCARDS: Final = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows, and in which order.

    Attributes:
        text: what to look for; empty for everything. Case counts where an upper-case letter is in it.
        match: ``substring`` (of several words each), ``prefix`` or ``glob`` (over the whole key).
        folder: only keys that start with this text.
        sort: ``key``, ``size`` or ``modified``. Keys are in natural order, ``step:2`` before ``step:10``, as long as
            there are at most 200,000, or at most 20,000 that fit; others by their characters.
        descending: largest first; rows that tie stay in the order of their keys.
    """

    text: str = ""
    match: str = "substring"
    folder: str = ""
    sort: str = "key"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """All keys that start with ``path``, which ends in ``:`` or ``/``; ``leaf`` when no folder is in it."""

    path: str
    keys: int
    size: int
    leaf: bool


class IndexBuilder:
    """Collects the entries of a listing, then makes the index."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._columns = array("q"), array("q")
        self._flags = bytearray()

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, entry: Entry) -> None:
        """Take one entry; one without a key is held under its filename."""
        self._texts.append(entry.filename if entry.key is None else entry.key)
        self._columns[0].append(known_size(entry.size))
        self._columns[1].append(_microseconds_of(entry.modified))
        self._flags.append((entry.key is not None) * _KNOWN + bool(entry.ambiguous) * _AMBIGUOUS)

    def finish(self) -> KeyIndex:
        """Return the index of everything that was added; another thread may go on adding."""
        count = len(self._flags)  # what an entry adds last
        order = sorted(range(count), key=self._texts.__getitem__)
        # Copies, because an array that lends its memory cannot grow.
        sizes, modified = (np.array(column[:count], dtype=np.int64)[order] for column in self._columns)
        flags = np.frombuffer(bytes(self._flags), dtype=np.uint8)[order]
        return KeyIndex(_side_by_side([self._texts[place] for place in order]), sizes, modified, flags)


class KeyIndex:
    """Every entry of a listing: row 0 has the smallest key. Immutable, safe to share by threads.

    About 120 bytes for a key of 24 characters; the entries themselves are made for the page that shows them.

    Example:
        >>> index = KeyIndex.of([Entry("run:2", 5, None), Entry("run:1", 9, None)])
        >>> [index.entry(row).key for row in index.rows(Query(sort="size"))]
        ['run:2', 'run:1']
    """

    def __init__(
        self,
        texts: list[str],
        sizes: npt.NDArray[np.int64],
        modified: npt.NDArray[np.int64],
        flags: npt.NDArray[np.uint8],
    ) -> None:
        self._texts = texts
        # A text that is lower case already is kept once.
        lowered = [text if text == (lower := text.lower()) else lower for text in texts]
        self._lowered = texts if all(map(is_, lowered, texts)) else lowered
        self._columns = {"size": sizes, "modified": modified}
        self._flags = flags
        # Where each row stands in natural order; None where that would take too long.
        self._ranks = _ranks_of(texts) if len(texts) <= _NATURAL_KEYS else None
        self._results: OrderedDict[Query, Rows] = OrderedDict()
        self.size_bytes = self._size_between(0, len(texts))

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> KeyIndex:
        """Return the index of ``entries``."""
        builder = IndexBuilder()
        for entry in entries:
            builder.add(entry)
        return builder.finish()

    def __len__(self) -> int:
        return len(self._texts)

    def entry(self, row: int) -> Entry:
        """Return the entry of one row."""
        text, flags, modified = self._texts[row], int(self._flags[row]), int(self._columns["modified"][row])
        return Entry(
            key=text if flags & _KNOWN else None,
            size=int(self._columns["size"][row]),
            modified=None if modified == _NO_TIME else _EPOCH + modified * _MICROSECOND,
            stored_as=None if flags & _KNOWN else text,
            ambiguous=bool(flags & _AMBIGUOUS),
        )

    def same_as(self, other: KeyIndex) -> bool:
        """Tell whether another listing found the same keys with the same sizes and times."""
        columns = zip(self._columns.values(), other._columns.values(), strict=True)
        return self._texts == other._texts and all(np.array_equal(*pair) for pair in columns)

    def find(self, key: str, *, known: bool = True) -> int | None:
        """Return the row of a key, or of the filename of one that is not known; None when it is not listed."""
        row = bisect_left(self._texts, key)
        while row < len(self) and self._texts[row] == key:  # a filename may also be somebody's key
            if bool(self._flags[row] & _KNOWN) == known:
                return row
            row += 1
        return None

    def rows(self, query: Query) -> Rows:
        """Return the rows that fit ``query``, in its order; the last few answers are remembered.

        Raises:
            PersistenceError: the pattern takes too long.
        """
        known = self._results.pop(query, None)
        rows = self._sorted(self._matching(query), query) if known is None else known
        self._results[query] = rows
        while len(self._results) > _REMEMBERED:
            self._results.popitem(last=False)
        return rows

    def size_of(self, rows: Rows) -> int:
        """Return the size of the values of ``rows`` together."""
        return self.size_bytes if len(rows) == len(self) else _sum(self._columns["size"][rows])

    def level(self, folder: str = "", *, following: int = 0, limit: int = 200) -> tuple[list[Folder], int | None]:
        """Return the next ``limit`` folders right below ``folder``, and where to go on; None when there are no more.

        Args:
            folder: empty, or the path of a folder.
            following: where to go on, as the call before told.
            limit: how many folders at most.
        """
        first, last = self._span(folder)
        row = max(first, following)
        folders: list[Folder] = []
        while row < last and len(folders) < limit:
            text = self._texts[row]
            ends = [end for end in (text.find(":", len(folder)), text.find("/", len(folder))) if end >= 0]
            if not ends:  # a key that lies here directly
                row += 1
                continue
            path = text[: min(ends) + 1]
            begin, row = self._span(path)
            few = range(begin, min(row, begin + _CHUNK_ROWS))
            leaf = row - begin <= _CHUNK_ROWS and not any(_has_folder(self._texts[n], len(path)) for n in few)
            folders.append(Folder(path, row - begin, self._size_between(begin, row), leaf))
        return folders, row if row < last else None

    def _size_between(self, first: int, last: int) -> int:
        return _sum(self._columns["size"][first:last])

    def _span(self, prefix: str) -> tuple[int, int]:
        """Return the first row that starts with ``prefix`` and the first after it."""
        first = bisect_left(self._texts, prefix)
        return first, bisect_right(self._texts, prefix, lo=first, key=lambda text: text[: len(prefix)])

    def _matching(self, query: Query) -> Rows:
        """Return the rows that fit, in the order of their keys.

        Python translates globs into expressions that never go back behind a ``*``, so each text takes a bounded time;
        very many long texts are stopped by the clock.
        """
        first, last = self._span(query.folder)
        text = query.text
        texts = self._lowered if text == text.lower() else self._texts
        if query.match == "substring":
            literals = text.split()
        else:  # what stands before a set in brackets, without wildcards, is in every text that fits
            literals = _WILDCARDS.split(text.partition("[")[0]) if query.match == "glob" else [text]
            if texts is self._texts:
                begin, end = self._span(literals[0])
                first, last = max(first, begin), min(last, end)
        fits: Callable[[str], object] | None = None
        if query.match == "glob":
            fits = re.compile(fnmatch.translate(text)).match
        elif query.match == "prefix" and texts is not self._texts:
            fits = re.compile(re.escape(text)).match
        elif len(literals) > 1:
            fits = lambda one: all(word in one for word in literals)  # noqa: E731
        literal = max(literals, key=len, default="")
        if not text or (fits is None and (query.match == "prefix" or not literal)):
            return np.arange(first, max(first, last), dtype=np.int32)
        deadline = monotonic() + _SEARCH_SECONDS
        found: list[int] = []
        for begin in range(first, last, _CHUNK_ROWS):
            rows = [
                row for row, one in enumerate(texts[begin : min(begin + _CHUNK_ROWS, last)], begin) if literal in one
            ]
            found += rows if fits is None else [row for row in rows if fits(texts[row])]
            if monotonic() > deadline:
                raise PersistenceError(f"the search took longer than {_SEARCH_SECONDS:g} s: look for a plainer text")
        return np.array(found, dtype=np.int32)

    def _sorted(self, chosen: Rows, query: Query) -> Rows:
        if query.sort == "key":
            ordered = self._natural(chosen)
            return ordered[::-1] if query.descending else ordered
        if len(chosen) * 8 < len(self) or len(chosen) == len(self):
            return self._by_column(self._natural(chosen), query)
        order = self.rows(Query(sort=query.sort, descending=query.descending))
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[chosen] = True
        return order[wanted[order]]

    def _natural(self, chosen: Rows) -> Rows:
        """Return rows, given in the order of their texts, in natural order."""
        if self._ranks is not None:
            return chosen[np.argsort(self._ranks[chosen])]
        if len(chosen) <= _NATURAL_ROWS:
            return np.array(sorted(chosen.tolist(), key=lambda row: _natural(self._texts[row])), dtype=np.int32)
        return chosen

    def _by_column(self, chosen: Rows, query: Query) -> Rows:
        values = self._columns[query.sort][chosen]
        # ~x falls as x rises, also for the smallest integer, where -x would overflow.
        return chosen[np.argsort(~values if query.descending else values, kind="stable")]


def _ranks_of(texts: list[str]) -> Rows:
    ranks = np.empty(len(texts), dtype=np.int32)
    ranks[sorted(range(len(texts)), key=lambda row: _natural(texts[row]))] = np.arange(len(texts), dtype=np.int32)
    return ranks


def _has_folder(text: str, begin: int) -> bool:
    return ":" in text[begin:] or "/" in text[begin:]


def _sum(sizes: npt.NDArray[np.int64]) -> int:
    # Sizes that a damaged table claims may add up to more than 64 bits hold.
    exact = object if len(sizes) and int(sizes.max()) > _MOST_BYTES // len(sizes) else np.int64
    return int(sizes.sum(dtype=exact))


def _side_by_side(texts: list[str]) -> list[str]:
    """Return new texts made in this order, so that they lie in memory in this order: a search is 3 times as fast."""
    fresh = "\0".join(texts).split("\0")
    return fresh if len(fresh) == len(texts) else texts  # a backend of somebody's own may list NUL


def _microseconds_of(modified: object) -> int:
    moment = known_time(modified)
    return _NO_TIME if moment is None else (moment - _EPOCH) // _MICROSECOND


def _natural(text: str) -> str:
    """Return what sorted texts are sorted by, so that ``step:2`` comes before ``step:10``."""
    return _DIGITS.sub(_with_length, text)


def _with_length(digits: re.Match[str]) -> str:
    number = digits[0].lstrip("0")
    return f"0{chr(len(number))}{number}"  # the more digits, the larger; a digit keeps its place among other characters
