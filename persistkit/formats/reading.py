"""Reading: from bytes, told apart by their content, to a Python value."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import Any, Final

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError
from persistkit.formats.langgraph import decode_row
from persistkit.formats.tags import MARK, read_tags
from persistkit.rows import MAGIC as _LANGGRAPH

__all__ = ["LINES_KEYS", "decode", "decode_text", "format_of"]

_NPY: Final = b"\x93NUMPY"
_PARQUET: Final = b"PAR1"
_ZIP: Final = b"PK\x03\x04"
_TAG: Final = f'"{MARK}"'
_LEAST_PARQUET: Final = 12
_SIGNED: Final = bytes([_NPY[0], _PARQUET[0], _LANGGRAPH[0]])
_NAMED: Final = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"%PDF-": "pdf",
    b"\x1f\x8b": "gzip",
    _ZIP: "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OPAQUE: Final = {*_NAMED.values(), "webp"}

_SPACE: Final = " \t\r\n"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
LINES_KEYS: Final = (".jsonl", ".ndjson")
_JSON_STARTS: Final = frozenset('{["-0123456789tfn\ufeff' + _SPACE)
# All control characters but those that `file` counts as text: BEL, BS, TAB, LF, VT, FF, CR, ESC.
_CONTROLS: Final = bytes({*range(32)} - {*range(7, 14), 27})

# json.loads looks for space around the value, and json.dumps with options builds an encoder for every call.
_parse: Final = json.JSONDecoder().raw_decode
_unescaped: Final = json.JSONEncoder(ensure_ascii=False).encode


def decode(data: BytesLike, format: str | None = None, key: str | None = None, *, max_bytes: int | None = None) -> Any:  # noqa: A002 - the word that numpy, pandas and users say
    r"""Return the value that ``data`` holds, in the given format, or the one its content tells.

    By content: npy, and Parquet when it both begins and ends so; text, when it is UTF-8 with few control characters
    and no NUL, and of that JSON, if the whole is an object or an array, or exactly what ``json.dumps`` writes for a
    number, a text, a bool or None; JSON Lines, a list, if each of several lines is an object or an array; any other
    text as str; a row of LangGraph's as a dict of plain data; all else as bytes. A writable buffer is given away: an
    array may keep it.

    Args:
        data: a value's bytes.
        format: ``json``, ``jsonl``, ``text``, ``csv`` (a DataFrame), ``bytes``, ``npy``, ``parquet``, ``langgraph``, or
            an image's or archive's name, which stays bytes.
        key: where the value is stored; below ``.jsonl`` and ``.ndjson`` a single line is a list too.
        max_bytes: how much memory a table may take; None for 256 MiB, or 256 times its size where that is more.

    Raises:
        FormatError: npy, Parquet or a row is damaged, or it is not of the given format, or needs more memory. What
            is counted is what a Parquet file says of itself: one that was written to deceive pyarrow can take as much
            as its compressed pages unpack to.
        ValueError: there is no such format.

    Example:
        >>> decode(b'{"loss":0.25}'), decode(b"[INFO] started"), decode(b'{"step":1}', format="jsonl")
        ({'loss': 0.25}, '[INFO] started', [{'step': 1}])
    """
    found = _signed_format(data) if format is None else format
    return _read(bytes(data), key)[1] if found is None else _decode_as(data, found, max_bytes)


def decode_text(data: bytes, key: str | None = None) -> Any:
    r"""Return JSON, JSON Lines, text and rows in ``data`` as ``decode`` does; arrays and tables stay bytes.

    Example:
        >>> decode_text(b'{"steps": 3}'), decode_text(b"\x93NUMPY...")
        ({'steps': 3}, b'\x93NUMPY...')
    """
    found = _signed_format(data)
    if found is None:
        return _read(data, key)[1]
    return decode_row(data) if found == "langgraph" else data


def format_of(data: bytes, key: str | None = None) -> str:
    r"""Return the name of the format of ``data``, as ``decode`` sees it: ``json``, ``npy``, ``parquet``, ``text``, ...

    Other bytes are named by their first ones where known (``png``, ``jpeg``, ``gif``, ``webp``, ``pdf``, ...), else
    ``bytes``. Parquet and npy are not looked through.

    Example:
        >>> format_of(b"[1, 2]"), format_of(b"plain"), format_of(b"%PDF-1.7\x80")
        ('json', 'text', 'pdf')
    """
    found = _signed_format(data) or _read(data, key)[0]
    return found if found != "bytes" else _named_by_start(data)


def _signed_format(data: BytesLike) -> str | None:
    """Return the format that is decoded, whose signature the bytes bear."""
    if not data or data[0] not in _SIGNED:  # almost every value, in a tenth of a microsecond
        return None
    start = bytes(data[: len(_LANGGRAPH)])
    if start == _LANGGRAPH:
        return "langgraph"
    if start.startswith(_NPY):
        return "npy"
    return "parquet" if start[:4] == _PARQUET == data[-4:] and len(data) >= _LEAST_PARQUET else None


def _named_by_start(data: bytes) -> str:
    """Return the name of bytes that stay bytes, by the first of them."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _NAMED.items() if data.startswith(magic)), "bytes")


def _read(data: bytes, key: str | None) -> tuple[str, Any]:
    """Return the format, and the value in it: JSON, JSON Lines, text or bytes."""
    if 0 in data:  # a NUL is in neither JSON nor text
        return "bytes", data
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "bytes", data
    found = None
    try:
        found = _read_json(text, key)
    except RecursionError:
        # The nesting that can be read must not depend on how deep in the program the caller is.
        with ThreadPoolExecutor(1) as fresh_stack, suppress(RuntimeError):  # too deep for it too, or no thread starts
            found = fresh_stack.submit(_read_json, text, key).result()
    if found is not None:
        return found
    if 10 * (len(data) - len(data.translate(None, _CONTROLS))) > len(data) or data[:4] == _ZIP:
        return "bytes", data
    return "text", text


def _read_json(text: str, key: str | None) -> tuple[str, Any] | None:
    start = text[:1]
    if start not in _JSON_STARTS:
        return None
    body = text if start in "{[" else text.removeprefix("\ufeff").lstrip(_SPACE)
    if body[:1] not in ("{", "["):
        return _read_scalar(text)
    name, value = "jsonl", None
    if key is not None and key.endswith(LINES_KEYS):
        value = _read_lines(body)
    if value is None:
        try:
            value, end = _parse(body)
        except ValueError:
            return None
        if not body[end:].strip(_SPACE):
            name = "json"
        elif (value := _read_lines(body)) is None:
            return None
    return name, read_tags(value) if _TAG in text else value


def _read_scalar(text: str) -> tuple[str, Any] | None:
    try:
        value, end = _parse(text)
    except ValueError:
        return None
    if type(value) is str:
        is_written = text == json.dumps(value) or text == _unescaped(value)
    else:  # as json.dumps writes it, in a fifth of the time
        is_written = end == len(text) and (type(value) not in (int, float) or text == repr(value))
    return ("json", value) if is_written else None


def _read_lines(text: str) -> list[Any] | None:
    """Return the object or array on each line; None when a line is something else."""
    try:
        values = _parse_lines(text)
    except ValueError:
        return None
    return values if all(type(value) is dict or type(value) is list for value in values) else None


def _decode_as(data: BytesLike, name: str, max_bytes: int | None) -> Any:
    if name == "npy":
        from persistkit.formats.arrays import decode_array

        return decode_array(data)
    if name == "parquet":
        from persistkit.formats.tables import decode_table

        return decode_table(data, max_bytes=max_bytes)
    content = bytes(data)
    if name == "langgraph":
        return decode_row(content)
    if name == "bytes":
        return content
    if name in _OPAQUE:
        if _named_by_start(content) != name:
            raise FormatError(f"not {name}: it begins with {content[:8]!r}")
        return content
    try:
        if name == "csv":
            import pandas as pd

            return pd.read_csv(BytesIO(content))
        text = content.decode()
        if name == "text":
            return text
        if name == "json":
            return read_tags(json.loads(text.removeprefix("\ufeff")))
        if name == "jsonl":
            return read_tags(_parse_lines(text.removeprefix("\ufeff")))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not {name}: {str(error)[:300]}") from error
    raise ValueError(
        f"there is no format {name!r}; there are json, jsonl, text, csv, bytes, npy, parquet, langgraph, "
        f"{', '.join(sorted(_OPAQUE))}"
    )


def _parse_lines(text: str) -> list[Any]:
    values = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        if content := line.strip(_SPACE):
            try:
                values.append(json.loads(content))
            except ValueError as error:
                raise ValueError(f"line {number:,}: {error}") from error
    return values
