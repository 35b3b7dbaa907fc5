"""What a value looks like: bounded previews, chosen by its first bytes and its key. Nothing in it is executed."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from persistkit.browser.kinds import Kind, kind_of, text_of
from persistkit.browser.tables import array_table, csv_table, objects_table, parquet_table
from persistkit.browser.trees import Tree, parse_json, parse_lines
from persistkit.errors import FormatError
from persistkit.formats.langgraph import row_text
from persistkit.text import human_size, visible

__all__ = ["FIRST_BYTES", "MORE_BYTES", "Preview", "Value", "make_preview"]

FIRST_BYTES: Final = 64 * 1024
MORE_BYTES: Final = 1024 * 1024
_WHOLE_BYTES: Final = 16 * 1024 * 1024  # images and Parquet cannot be shown from a part
_WHOLE_TEXT_BYTES: Final = 4 * 1024 * 1024

_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]\s*[\]}]|[\[\]{},:]|[^\s"\[\]{},:]+')
_INDENTED: Final = 60
_ENDS: Final = {"png": b"IEND", "jpeg": b"\xff\xd9", "gif": b";"}


class Value:
    """A stored value that is read by ranges.

    Attributes:
        key: where it is stored, None where that is not known.
        size: in bytes: what the listing says, until reading it tells better.
        start: the first bytes, as far as they were read already.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, key: str | None = None) -> None:
        self._read = read
        self.key = key
        self.size = size
        self.start = b""
        self.start = self.read(0, FIRST_BYTES)

    @classmethod
    def of(cls, data: bytes, key: str | None = None) -> Value:
        """Return the value of bytes at hand."""
        return cls(lambda start, size: data[start : start + size], len(data), key)

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes, fewer only at the end of the value."""
        if start + size <= len(self.start):
            return self.start[start : start + size]
        data = self._read(start, size + 1)  # one more tells whether there is more, whatever an older listing says
        if len(data) <= size:
            self.size = start + len(data) if data or not start else min(start, self.size)
        else:
            self.size = max(self.size, start + len(data))
        return data[:size]

    def whole(self, limit: int) -> bytes | None:
        """Return the value, from one request, for two could read two values; None when it is larger than ``limit``."""
        if self.size > limit:
            return None
        if self.size <= len(self.start):
            return self.start
        data = self.read(0, limit)
        return data if len(data) == self.size else None


@dataclass(frozen=True, slots=True)
class Preview:
    """One way to show a value.

    Attributes:
        view: ``json``, ``table``, ``markdown``, ``text``, ``hex`` or ``image``.
        kind: what the value is.
        views: every way this value can be shown.
        note: what is wrong or left out, in words; empty when nothing is.
        body: what the view needs, plain data for a message.
        data: the bytes of an image or a dump, else empty.
        tree: of parsed JSON, from which the page asks for more.
    """

    view: str
    kind: Kind
    views: tuple[str, ...]
    note: str = ""
    body: dict[str, Any] = field(default_factory=dict)  # plain JSON data
    data: bytes = b""
    tree: Tree | None = None


def make_preview(
    value: Value,
    view: str | None = None,
    *,
    start: int = 0,
    size: int = FIRST_BYTES,
    row: int = 0,
    places: Sequence[int] = (),
) -> Preview:
    """Show a value; what cannot be shown as it should is shown as text or hex, with the reason.

    Args:
        value: what to show.
        view: how; None for the best way.
        start: the first byte of text or hex.
        size: how many bytes of text or hex.
        row: the first row of a table.
        places: which slice of an array with more than two axes.
    """
    kind = kind_of(value.start, value.key)
    views = (*kind.views[:1], "table", *kind.views[1:]) if kind.name == "json" and _is_list(value.start) else kind.views
    view = view if view in views else views[0]
    note = ""
    try:
        if view == "json":
            tree = Tree(_parsed(value, kind))
            return Preview(view, kind, views, body={"tree": tree.root()}, tree=tree)
        if view == "table":
            return Preview(view, kind, views, body=_table(value, kind, start, row, places))
        if view == "image":
            data = _whole(value, _WHOLE_BYTES, "download it")
            return Preview(view, kind, views, _cut_off(kind, data), {"mime": kind.mime}, data)
        if view == "markdown":
            data = _whole(value, FIRST_BYTES, "shown as text")
            return Preview(view, kind, views, body={"text": visible(_text(data), lines=True)})
    except (ValueError, FormatError, csv.Error, SystemError) as error:  # the last is NumPy's, of text beyond Unicode
        note = visible(str(error))[:300]
        view = "text" if "text" in kind.views[:3] and text_of(value.start) is not None else "hex"
    data = value.read(start, max(1, min(size, MORE_BYTES)))
    window = _window(start, len(data), value.size)
    if view == "hex":
        return Preview("hex", kind, views, note, window, data)
    text = text_of(_from_next_character(data) if start else data)
    if text is None:
        note = note or "not UTF-8 text: bytes that are none show as �"
        text = data.decode("utf-8", "replace")
    if kind.name == "json" and value.size > _WHOLE_TEXT_BYTES:
        text = _indented(text)
    return Preview("text", kind, views, note, {"text": visible(text, lines=True), **window})


def _window(start: int, read: int, size: int) -> dict[str, Any]:
    """Return which part of a value is shown, in words, and the parts that can be asked for next."""
    if read >= size:
        part = ""
    elif not start:
        part = f"first {human_size(read)} of {human_size(size)}"
    else:
        part = f"{human_size(start)} to {human_size(start + read)} of {human_size(size)}"
    steps: list[tuple[str, dict[str, int]]] = []
    if start:
        steps.append(("Back", {"start": max(0, start - MORE_BYTES), "bytes": MORE_BYTES}))
    if start + read < size:
        first = not start and read < MORE_BYTES
        steps.append(("Show more" if first else "Next", {"start": 0 if first else start + read, "bytes": MORE_BYTES}))
    return {"start": start, "bytes": read, "part": part, "steps": steps}


def _from_next_character(data: bytes) -> bytes:
    """Leave out the rest of a character that began before: at most three bytes that only continue one."""
    return next((data[n:] for n in range(4) if not 0x80 <= int.from_bytes(data[n : n + 1]) < 0xC0), data)


def _indented(text: str) -> str:
    """Return a part of JSON with a line for each member, whatever it is cut out of."""
    lines, line, depth = [], "", 0
    for mark in _TOKENS.findall(text):
        if mark in ("}", "]"):
            depth = max(0, depth - 1)
            lines.append(line)
            line = "  " * min(depth, _INDENTED) + mark
            continue
        line += f"{mark} " if mark == ":" else mark
        if mark in ("{", "[", ","):
            depth += mark != ","
            lines.append(line)
            line = "  " * min(depth, _INDENTED)
    return "\n".join(one for one in [*lines, line] if one.strip())


def _is_list(start: bytes) -> bool:
    return re.match(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{", start) is not None


def _cut_off(kind: Kind, data: bytes) -> str:
    """Return a warning when the end of an image is not there."""
    cut = kind.name in _ENDS and _ENDS[kind.name] not in data[-64:]
    if kind.name == "webp":
        cut = int.from_bytes(data[4:8], "little") + 8 > len(data)
    return f"the end of this {kind.name.upper()} is missing: it may be cut off" if cut else ""


def _whole(value: Value, limit: int, instead: str) -> bytes:
    data = value.whole(limit)
    if data is None:
        raise ValueError(f"more than {human_size(limit)}: {instead}")
    return data


def _text(data: bytes) -> str:
    text = text_of(data)
    if text is None:
        raise ValueError("not UTF-8 text")
    return text


def _parsed(value: Value, kind: Kind) -> object:
    data = _whole(value, _WHOLE_TEXT_BYTES, "load it in Python" if kind.name == "langgraph" else "shown by parts")
    try:
        text = row_text(data) if kind.name == "langgraph" else _text(data)
    except ImportError as error:  # a row that was copied to where nobody reads LangGraph
        raise ValueError(str(error)) from error
    try:
        return parse_lines(text) if kind.name == "jsonl" else parse_json(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _table(value: Value, kind: Kind, start: int, row: int, places: Sequence[int]) -> dict[str, Any]:
    if kind.name == "npy":
        return array_table(value.read, value.size, row, places)
    if kind.name == "parquet":
        return parquet_table(_whole(value, _WHOLE_BYTES, "load it in Python"), row)
    if kind.name in ("csv", "tsv"):
        complete = value.size <= _WHOLE_TEXT_BYTES
        text = _text(_whole(value, _WHOLE_TEXT_BYTES, "")) if complete else text_of(value.read(start, MORE_BYTES)) or ""
        return csv_table(text.removeprefix("\ufeff"), "," if kind.name == "csv" else "\t", row, complete=complete)
    parsed = _parsed(value, kind)
    return objects_table(parsed if isinstance(parsed, list) else [parsed], row)
