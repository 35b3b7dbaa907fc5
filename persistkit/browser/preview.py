"""What a value looks like: bounded previews made from its first bytes, chosen by its content. Nothing is executed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from persistkit.formats import format_of, named_by_start
from persistkit.formats.arrays import npy_header
from persistkit.text import human_size, visible

__all__ = ["FIRST_BYTES", "MORE_BYTES", "WHOLE_BYTES", "Preview", "detect", "make_preview", "whole_limit", "window_of"]

FIRST_BYTES: Final = 64 * 1024
MORE_BYTES: Final = 1024 * 1024
WHOLE_BYTES: Final = 16 * 1024 * 1024  # images and Parquet cannot be shown from a part; larger ones stay bytes

WHOLE_JSON_BYTES: Final = 4 * 1024 * 1024

_STARTS_LIKE_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")
_ITEMS: Final = 100
_NODES: Final = 3000
_DEPTH: Final = 60
_NESTING: Final = 400
_STRING: Final = 2000
_TABLE_ROWS: Final = 50
_TABLE_COLUMNS: Final = 30
_CELL: Final = 200
_CELL_BYTES: Final = 64 * 1024

_UNPACKED_BYTES: Final = 128 * 1024 * 1024
_KINDS: Final = dict.fromkeys(("png", "jpeg", "gif", "webp"), "image") | dict.fromkeys(("npy", "parquet"), "table")
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Preview:
    """One way to show a value.

    Attributes:
        kind: ``json``, ``text``, ``hex``, ``image`` or ``table``.
        choices: every kind this value can be shown as.
        note: what is wrong or left out, in words; empty when nothing is.
        body: what the kind needs, plain data for a message.
        data: the bytes of an image or a dump, else empty.
    """

    kind: str
    choices: tuple[str, ...]
    note: str = ""
    body: dict[str, Any] = field(default_factory=dict)  # plain JSON data, as deep as the kind needs
    data: bytes = b""


def detect(data: bytes) -> str:
    """Tell the kind of a value by its first bytes, as ``formats`` names them."""
    if kind := _KINDS.get(named_by_start(data)):
        return kind
    if _decoded(data) is None:
        return "hex"
    return "json" if format_of(data) in ("json", "damaged json") else "text"


def whole_limit(data: bytes) -> int:
    """Return up to which size a value that begins with ``data`` is read whole to be shown; 0 for by parts."""
    name = named_by_start(data)
    if name == "parquet" or _KINDS.get(name) == "image":
        return WHOLE_BYTES
    return WHOLE_JSON_BYTES if _STARTS_LIKE_JSON.match(data) else 0


def make_preview(data: bytes, size: int, kind: str | None = None, *, start: int = 0) -> Preview:
    """Show a part of a value, the first by its kind, a later one as text or bytes.

    Args:
        data: the bytes of the value from ``start``.
        size: of the whole value, in bytes.
        start: where ``data`` begins in the value.
        kind: how to show it; by its content when None. What cannot be shown so is shown as text or hex, with a note.
    """
    letters = _from_next_character(data) if start else data
    best = detect(data) if not start else "hex" if _decoded(letters) is None else "text"
    choices = (*{best, "text", "hex"} - {"text", "hex"}, "text", "hex")
    wanted = kind if kind in choices else best
    note = ""
    shower = _SHOWERS.get(wanted)
    if shower is not None:
        try:
            body, raw = shower(data, size)
            return Preview(wanted, choices, body=body, data=raw)
        except _CannotShowError as error:
            note = str(error)
    if wanted == "text" or (wanted == "json" and _decoded(letters) is not None):
        text = _decoded(letters)
        if text is None:
            note = "not UTF-8 text: bytes that are none show as �"
            text = data.decode("utf-8", "replace")
        return Preview("text", choices, note, {"text": visible(text, lines=True)})
    return Preview("hex", choices, note, data=data[:MORE_BYTES])


def window_of(start: int, read: int, size: int) -> dict[str, Any]:
    """Return which part of a value is shown, in words, and the parts that can be asked for next.

    Example:
        >>> window_of(0, 65536, 3 * 2**30)["part"]
        'first 64.0 KiB of 3.0 GiB'
    """
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


class _CannotShowError(Exception):
    """The value cannot be shown this way; the text says why."""


class _Number(str):
    """A number as it is written: no digit lost, however long."""

    __slots__ = ()


class _Pairs(list[tuple[str, object]]):
    """The members of an object, repeated names kept."""


def _from_next_character(data: bytes) -> bytes:
    """Leave out the rest of a character that began before: at most three bytes that only continue one."""
    return next((data[n:] for n in range(4) if not 0x80 <= int.from_bytes(data[n : n + 1]) < 0xC0), data)


def _decoded(data: bytes) -> str | None:
    """Return the text of ``data``, a character cut at its end left out; None when it is no UTF-8 text."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or len(data) - error.start > 3:
            return None
        return data[: error.start].decode()


def _show_json(data: bytes, size: int) -> tuple[dict[str, Any], bytes]:
    if len(data) < size:
        raise _CannotShowError("too large for a tree: shown as text")
    text = data.decode("utf-8", "replace")
    nesting = np.array(
        [(c in "[{") - (c in "]}") for c in re.sub(r"[^][{}]", "", _STRINGS.sub("", text))], dtype=np.int64
    )
    if nesting.size and int(nesting.cumsum().max()) > _NESTING:
        raise _CannotShowError(f"nested {int(nesting.cumsum().max()):,} levels deep: shown as text")
    try:
        value = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
    except (ValueError, RecursionError) as error:
        raise _CannotShowError(f"damaged JSON: {error}") from error
    return {"tree": _Tree().node(value, 0)}, b""


class _Tree:
    """Turns parsed JSON into a message of bounded size."""

    def __init__(self) -> None:
        self._left = _NODES
        self._characters = 2 * FIRST_BYTES

    def node(self, value: object, depth: int) -> list[Any]:
        """Return ``value`` as [kind, ...]; containers carry their true count."""
        self._left -= 1
        if isinstance(value, _Pairs):
            shown = self._children(value, depth)
            return ["object", len(value), [[self._text(name)[0], self.node(child, depth + 1)] for name, child in shown]]
        if isinstance(value, list):
            shown = self._children(value, depth)
            return ["array", len(value), [self.node(child, depth + 1) for child in shown]]
        if isinstance(value, _Number):
            return ["number", *self._text(value)]
        if isinstance(value, str):
            return ["string", *self._text(value)]
        return ["literal", json.dumps(value)]

    def _children(self, values: list[Any], depth: int) -> list[Any]:
        return values[: max(0, min(_ITEMS, self._left))] if depth < _DEPTH and self._characters > 0 else []

    def _text(self, text: str) -> tuple[str, int]:
        """Return as much as is shown, and how many characters are not."""
        shown = text[: max(20, min(_STRING, self._characters))]
        self._characters -= len(shown)
        return visible(shown, lines=True), len(text) - len(shown)


def _show_image(data: bytes, size: int) -> tuple[dict[str, Any], bytes]:
    if len(data) < size:
        raise _CannotShowError(f"an image of more than {WHOLE_BYTES // 2**20} MiB is not shown: its first bytes")
    return {"mime": f"image/{named_by_start(data)}"}, data


def _show_table(data: bytes, size: int) -> tuple[dict[str, Any], bytes]:
    try:
        return (_npy_table(data) if data.startswith(b"\x93NUMPY") else _parquet_table(data, size)), b""
    except _CannotShowError:
        raise
    except Exception as error:  # NumPy and Arrow raise what they like on bytes of strangers
        raise _CannotShowError(f"damaged table: {visible(str(error))[:300]}") from error


def _npy_table(data: bytes) -> dict[str, Any]:
    dtype, fortran, shape, start = npy_header(data)
    width, total = math.prod(shape[1:]), shape[0] if shape else 1
    row_bytes = max(1, dtype.itemsize * width)
    stored = (len(data) - start) // row_bytes
    if fortran and len(shape) > 1:
        if stored < total:
            raise _CannotShowError("an array in column order is only shown when all of it is read")
        values = np.frombuffer(data, dtype, total * width, start).reshape(shape, order="F")
        rows = values[:_TABLE_ROWS].reshape(-1, width)
    else:
        count = min(total, _TABLE_ROWS, stored)
        if total and not count:
            raise _CannotShowError("damaged table, or one wider than the preview: its first row is not there")
        rows = np.frombuffer(data[start:], dtype, count * width).reshape(count, width)
    names = dtype.names or tuple(str(number) for number in range(min(width, _TABLE_COLUMNS)))
    cells = [list(row) if dtype.names is None else list(row[0]) for row in rows[:, :_TABLE_COLUMNS]]
    kinds = [str(dtype[name]) for name in dtype.names] if dtype.names else [str(dtype)] * len(names)
    summary = f"{dtype} · {' by '.join(f'{length:,}' for length in shape) or 'scalar'}"
    return _table(names, kinds, cells, total, summary, 0 if dtype.names else width - len(names))


def _parquet_table(data: bytes, size: int) -> dict[str, Any]:
    if len(data) < size:
        raise _CannotShowError(f"a Parquet table of more than {WHOLE_BYTES // 2**20} MiB is not shown: its first bytes")
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise _CannotShowError('a Parquet table: install "persistkit[arrow]" to see its rows') from None
    file = pq.ParquetFile(pa.BufferReader(data))
    names = file.schema_arrow.names
    shown = names[:_TABLE_COLUMNS]
    batch = _first_rows(file, shown)
    columns = [[] if batch is None else _cells(batch.column(number)) for number in range(len(shown))]
    kinds = [str(file.schema_arrow.field(number).type)[:_CELL] for number in range(len(shown))]
    summary = f"Parquet · {file.metadata.num_rows:,} by {len(names):,}"
    return _table(names, kinds, [list(row) for row in zip(*columns, strict=True)], file.metadata.num_rows, summary)


def _first_rows(file: Any, columns: list[str]) -> Any:  # Any: what pyarrow gives, without types
    """Return the first rows of these columns; None when there is none."""
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        if not about.num_rows:
            continue
        parts = (about.column(number) for number in range(about.num_columns))
        unpacked = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in columns)
        if unpacked > _UNPACKED_BYTES:
            raise _CannotShowError(
                f"its first rows would unpack to more than a preview holds, {human_size(unpacked)}: load it in Python"
            )
        return next(file.iter_batches(_TABLE_ROWS, row_groups=[group], columns=columns), None)
    return None


def _cells(column: Any) -> list[Any]:  # Any: an array of pyarrow's
    """Return the cells as Python objects, of long ones the beginning or the size."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_slice_codeunits(column, 0, _CELL)
    parts = [column.slice(number, 1) for number in range(len(column))]
    return [
        part.to_pylist()[0] if part.nbytes <= _CELL_BYTES else f"{column.type}, {part.nbytes:,} bytes"[-_CELL:]
        for part in parts
    ]


def _table(
    columns: Any, kinds: list[str], cells: list[list[Any]], total: int, summary: str, hidden: int = 0
) -> dict[str, Any]:
    shown = [visible(str(name))[:_CELL] for name in columns[:_TABLE_COLUMNS]]
    rest = max(hidden, len(columns) - len(shown))
    part = f" · first {len(cells):,} rows" if total > len(cells) else ""
    left = f" · {rest:,} {'column' if rest == 1 else 'columns'} not shown" if rest else ""
    return {
        "summary": summary + part + left,
        "columns": shown,
        "kinds": kinds[: len(shown)],
        "rows": [["" if cell is None else visible(str(cell)[:_CELL]) for cell in row] for row in cells],
        "numeric": [all(isinstance(row[i], (int, float, np.number)) for row in cells) for i in range(len(shown))],
    }


_SHOWERS: Final[dict[str, Callable[[bytes, int], tuple[dict[str, Any], bytes]]]] = {
    "json": _show_json,
    "image": _show_image,
    "table": _show_table,
}
