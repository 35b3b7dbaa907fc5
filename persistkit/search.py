"""Search: the places in stored values where a text or a regular expression is found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from uuid import UUID

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from persistkit.batches import grouped
from persistkit.engine import Engine
from persistkit.errors import FormatError
from persistkit.formats import decode, decode_text
from persistkit.frames import text_column
from persistkit.progress import Progress, load_in_batches
from persistkit.selection import Selection
from persistkit.text import path_step

__all__ = ["Pattern", "search"]

_TEXTS: Final = 20_000
_CHARACTERS: Final = 4_000_000
_BEFORE, _AFTER = 40, 80
_LONGEST_WHERE: Final = 300
_DEEPEST: Final = 8  # JSON inside of texts inside of JSON ...
_PLAIN: Final = re.compile(r'[^\x00-\x1f"\\/]+')
_NO_LETTERS: Final = re.compile(r"\\.|\(\?P")  # of an expression: \S, \W, (?P<name>...)
_PRINTED: Final = (date, time, timedelta, Decimal, PurePath, UUID, complex, range)
_ARRAY, _TABLE, _TAG = b"\x93NUMPY", b"PAR1", b"$py"


class Pattern:
    """What is searched for; an expression takes time in proportion to what it is matched with."""

    def __init__(self, text: str, *, regex: bool, case: bool | None) -> None:
        if not isinstance(text, str):
            raise TypeError(f"search takes a text, not {type(text).__name__}; numbers as they are stored: '0.25'")
        if not text:
            raise ValueError("search takes a text that is not empty; store.keys() lists all keys")
        letters = _NO_LETTERS.sub("", text) if regex else text
        self._case = letters != letters.lower() if case is None else case
        self.is_one_line = regex or "\n" not in text
        options = {"pattern": text, "ignore_case": not self._case}
        self._find = (pc.find_substring_regex if regex else pc.find_substring, options)
        # What stands in the bytes too, however JSON has escaped the rest.
        probe = "" if regex else max(_PLAIN.findall(text), key=len, default="")
        self._probe = (probe if self._case else probe.lower()).encode(errors="surrogatepass")
        self._is_ascii = text.isascii()
        try:
            self.find(["probe"])
        except UnicodeEncodeError:
            raise ValueError("search takes valid Unicode, without lone surrogates") from None
        except pa.ArrowInvalid as error:
            raise ValueError(f"search: {error}; RE2's expressions have no lookaround and no backreferences") from None

    def may_be_in(self, data: bytes) -> bool:
        """Tell quickly whether a value is worth decoding; False only where the text is in none of its places."""
        if self._case:
            found = self._probe in data or (b"\\u00" if self._is_ascii else b"\\u") in data
        else:  # upper and lower case can differ in length, and \u0041 is a letter too
            found = self._probe in data.lower() or not data.isascii() or b"\\u" in data
        return found or _TAG in data or data.startswith(_TABLE)

    def find(self, texts: list[str]) -> list[int]:
        """Return where the first match begins in each text, in UTF-8 bytes; -1 for none."""
        function, options = self._find
        found: list[int] = function(_array(texts), **options).to_pylist()
        return found


class _Place(NamedTuple):
    key: str
    where: str
    text: str


def search(engine: Engine, selection: Selection, pattern: Pattern, *, limit: int, progress: bool) -> pd.DataFrame:
    """Return the places where ``pattern`` is found: see ``Store.search``."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"limit is a number of places from 1 on, not {limit!r}")
    listed = sorted(selection.named_or_listed(engine))
    work = _Search(pattern)
    rows: list[_Place] = []
    with Progress(len(listed), "searching", shown=progress) as bar:
        for place in work.places(load_in_batches(engine, listed, bar)):
            if rows and place.key == rows[-1].key and place.where.startswith(f"{rows[-1].where} → "):
                rows.pop()  # the place within is the one to tell
            if len(rows) == limit:
                work.complete = False
                break
            rows.append(place)
    columns = {name: text_column([row[n] for row in rows]) for n, name in enumerate(("key", "where", "excerpt"))}
    frame = pd.DataFrame(columns)
    frame.attrs |= {"complete": work.complete, "searched": work.searched, "skipped": work.skipped}
    return frame


class _Search:
    """One search under way."""

    def __init__(self, pattern: Pattern) -> None:
        self.complete = True
        self.searched = 0
        self.skipped = {"arrays": 0, "binary": 0, "damaged": 0}
        self._pattern = pattern

    def places(self, loaded: Iterable[tuple[str, bytes | None]]) -> Iterator[_Place]:
        """Yield where it is found, with an excerpt for the text."""
        for some in grouped(self._texts(loaded), lambda place: len(place.text), _TEXTS, _CHARACTERS):
            for place, at in zip(some, self._pattern.find([place.text for place in some]), strict=True):
                if at >= 0:
                    yield place._replace(where=_cut(place.where), text=_excerpt(place.text, at))

    def _texts(self, loaded: Iterable[tuple[str, bytes | None]]) -> Iterator[_Place]:
        for key, data in loaded:
            if data is None:
                continue
            value: Any = None
            try:
                if self._pattern.may_be_in(data):
                    value = decode(data, None, key) if data[:4] == _TABLE else decode_text(data, key)
                elif data.startswith(_ARRAY) or not _is_text(data):
                    value = data
            except FormatError:
                self.skipped["damaged"] += 1
                continue
            if isinstance(value, bytes):
                self.skipped["arrays" if value.startswith(_ARRAY) else "binary"] += 1
                continue
            self.searched += 1
            if isinstance(value, str):
                found = self._lines("", value)
            elif isinstance(value, (pd.DataFrame, pd.Series)):
                found = _cells(value if isinstance(value, pd.DataFrame) else value.to_frame())
            else:
                found = self._leaves("$", value, 0) if value is not None else iter(())
            yield from (_Place(key, where, text) for where, text in found)

    def _leaves(self, top: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
        """Yield the texts in a value of JSON, names too, in their order, each with its path."""
        waiting = [iter([(top, value)])]  # a stack of our own: values may be nested more deeply than Python's
        while waiting:
            where, item = next(waiting[-1], ("", waiting))
            if item is waiting:
                waiting.pop()
            elif isinstance(item, str):
                inner = _json_in(item) if depth < _DEEPEST else None
                if inner is None:
                    yield from self._lines(f"{where} ", item)
                else:  # as a whole too: what is looked for may be more than one place within
                    yield where, item
                    yield from self._leaves(f"{where} → $", inner, depth + 1)
            elif isinstance(item, dict):
                yield from ((f"{where}{path_step(name)} (name)", str(name)) for name in item)
                waiting.append(iter([(f"{where}{path_step(name)}", inner) for name, inner in item.items()]))
            elif isinstance(item, (list, tuple, set, frozenset)):
                waiting.append(iter([(f"{where}[{n}]", inner) for n, inner in enumerate(item)]))
            elif item is None or isinstance(item, (bool, int, float)):
                yield where, json.dumps(item)
            elif isinstance(item, _PRINTED):
                yield where, str(item)

    def _lines(self, start: str, text: str) -> Iterator[tuple[str, str]]:
        if (start and "\n" not in text) or not self._pattern.is_one_line:
            yield start.strip(), text
            return
        # No splitlines, which also parts at characters that stand in the middle of an editor's line.
        for number, line in enumerate(text.replace("\r\n", "\n").removesuffix("\n").split("\n"), 1):
            yield f"{start}line {number}", line


def _json_in(text: str) -> Any:
    """Return the object or array that a text is, or None."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cells(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    index = table.index
    if not isinstance(index, pd.RangeIndex):
        for level, name in enumerate(index.names):
            yield from _cells_of("index" if name is None else f"index {name!r}", name, index.get_level_values(level))
    for place, name in enumerate(table.columns):
        yield from _cells_of(f"column {name!r}", name, table.iloc[:, place])


def _cells_of(where: str, name: object, cells: Iterable[object]) -> Iterator[tuple[str, str]]:
    if name is not None:
        yield f"{where} (name)", str(name)
    for row, cell in enumerate(cells):
        if not isinstance(cell, (bytes, bytearray)):
            yield f"{where}, row {row}", str(cell)


def _is_text(data: bytes) -> bool:
    try:
        return data.isascii() or (b"\0" not in data and data.decode() is not None)
    except UnicodeDecodeError:
        return False


def _array(texts: list[str]) -> Any:
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # JSON may escape lone surrogates
        return pa.array([text.encode(errors="replace").decode() for text in texts], pa.large_string())


def _excerpt(text: str, at: int) -> str:
    start = len(text.encode(errors="replace")[:at].decode(errors="replace"))
    first, last = max(0, start - _BEFORE), start + _AFTER
    return f"{'…' if first else ''}{text[first:last]}{'…' if last < len(text) else ''}"


def _cut(where: str) -> str:
    return where if len(where) <= _LONGEST_WHERE else f"{where[:_LONGEST_WHERE]}…"
