"""Values as other programs write them, each with what it must give: healthy bytes are never damaged."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import math
import struct
import sys
import threading
import zipfile
import zlib
from typing import Any

import numpy as np
import pandas as pd
import pytest

from persistkit.errors import FormatError
from persistkit.formats import decode, decode_text, encode, format_of

INF = math.inf
BOM = b"\xef\xbb\xbf"


def saved(array: np.ndarray[Any, Any]) -> bytes:
    """Return what ``numpy.save`` writes."""
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def zipped() -> bytes:
    """Return a zip file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("a.txt", "a")
    return sink.getvalue()


PARQUET = bytes(encode(pd.DataFrame({"a": [1, 2]})))

JSON: list[tuple[bytes, object]] = [
    (b'{"loss":0.25}', {"loss": 0.25}),
    (b'{"loss": 0.25}\n', {"loss": 0.25}),
    (b'{"step":1}\r\n', {"step": 1}),
    (b'\n\t {"step": 1} \r\n\n', {"step": 1}),
    (b'{\n  "a": [\n    1\n  ]\n}\n', {"a": [1]}),
    (b'{\r  "a": 1\r}\r', {"a": 1}),
    (b"{}", {}),
    (b"[]\n", []),
    (b"[1, 2]", [1, 2]),
    (b"[[1],\n [2]]", [[1], [2]]),
    (b"[\n{},\n{}\n]", [{}, {}]),
    (BOM + b'{"a":1}', {"a": 1}),
    (BOM + b' \n[1]\n', [1]),
    (b'{"a":Infinity,"b":-Infinity}', {"a": INF, "b": -INF}),
    (b'[1e999, -1e999, 1e-999]', [INF, -INF, 0.0]),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b'{"a":{"$py":"unknown"}}', {"a": {"$py": "unknown"}}),
    ('{"größe":"日本"}'.encode(), {"größe": "日本"}),
    (b'{"a":"\\u00e9\\ud83d\\ude00"}', {"a": "é😀"}),
    (b'{"a":"\\ud800"}', {"a": "\ud800"}),
    (b'{"a":"\\u0000"}', {"a": "\0"}),
    (b'{"a":"\x7f"}', {"a": "\x7f"}),
    (b"[" * 300 + b"]" * 300, json.loads("[" * 300 + "]" * 300)),
    (b"[" + b"7" * 4300 + b"]", [int("7" * 4300)]),
    (b"42", 42),
    (b"-7", -7),
    (b"0", 0),
    (b"1.1", 1.1),
    (b"-0.0", -0.0),
    (b"1e+16", 1e16),
    (b"12345678901234567890", 12345678901234567890),
    (b"true", True),
    (b"false", False),
    (b"null", None),
    (b'"text"', "text"),
    (b'""', ""),
    (b'"caf\\u00e9"', "café"),
    ('"café"'.encode(), "café"),
    (b'"a\\nb"', "a\nb"),
]  # fmt: skip

TEXT: list[bytes] = [
    # numbers that json.dumps would write in another way: versions, hashes, identifiers, other notations
    b"42\n", b" 42", b"1.10", b"1.10\n", b"1.1\n", b"007", b"+1", b".5", b"1.", b"-0", b"1e5", b"1E5", b"1234e567",
    b"1234e56", b"0x1f", b"1_000", b"1,000", b"1e999", b"-1e999", b"0.10000000000000000555", b"9" * 5000,
    b"2026-11-25", b"2026-11-25T14:00:00+01:00", b"10:30", b"192.168.0.1", b"3.11.7", b"12e3a9f", BOM + b"42",
    # words
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"None", b"True", b"yes", b"null\n", b"true ", b"", b" ", b"\n",
    b'"text"\n', b' "text"', b'"a" "b"', b'"a', b'"caf\\u00E9"', b'"\\u0061"', b'"a/\\/b"', b"'text'",
    # logs, scripts, settings, tables and prose
    b"[INFO] started", b"[2026-11-25 10:00:00] started\n[2026-11-25 10:00:01] done\n", b"{module} started\n",
    b"{} items\n", b"[1] first\n[2] second\n", b"[1/10] loss=0.5\n", b'{"a":1} done\n', b"[[bin]]\nname = \"a\"\n",
    b'[package]\nname = "a"\n', b'[[bin]]\n', b"[section]\nkey=1\n", b"{{ template }}\n", b"[link](https://example.org)\n",
    b"[x] done\n[ ] open\n", b"[^1]: a note", b"{'a': 1}", b"{'a': None, 'b': (1,)}", b"[1, 2, None]", b"[1, 2,]",
    b"{1, 2}", b"{a: 1}", b"[0.1 0.2]", b"[array([1])]", b"{\n  // comment\n  \"a\": 1\n}", b"[1, 2] # comment\n",
    b'"{""a"":1}",2\n', b'{"a":1},2\n{"a":2},3\n', b'id,data\n1,"{""a"":1}"\n', b"a,b\n1,2\n", b"1\n2\n3\n",
    b"a: 1\nb: [2]\n", b"---\n{a: 1}\n", b"<a/>", b"#!/bin/sh\n[ -f a ]\n", b"\\documentclass{a}", b"diff --git a b\n",
    b"\x1b[31mred\x1b[0m\n", b"a\x0cb\x07", b"8=FIX.4.2\x019=65\x0135=A-long-enough-for-text",
    "größe 日本 😀".encode(), BOM + b"a,b\n1,2\n", "a\u2028b".encode(), b"a\rb\r",
    # what may be a signature, and is text
    b"PAR1", b"PAR1 is the first word", b"GIF89a is a format", b"GIF87a", b"BZh is a start", b"%PDF-1.7\nplain\n",
    b"RIFF and WEBP", b" " + BOM + b"[1]",
    # JSON, JSON Lines: cut, nested too deeply, of too many digits, with something else between
    b'{"a":', b'{"a":1', b'{"a', b"{", b"[", b"[1,", b'[{"a":1},', b'{"a":1}\n{"a":', b'{"a":1}\n{"a":2}\n[', b"[]]",
    b'{"a":1}{"a":2}', b'{"a":1} {"a":2}', b'{"a":1}\n2\n', b'{"a":1}\n# comment\n{"a":2}\n', b'{"a":1}\x0b{"a":2}',
    '{"a":1}\u2028{"a":2}'.encode(), '{"a":1}\x85{"a":2}'.encode(), b'{"a":1}\n"b"\n', b'{"a":1}\n{\n"a":2}\n',
    b'{"a":"' + b"7" * 10 + b'\n"}', b'{"a":' + b"7" * 5000 + b"}", b"[" * 100_000 + b"]" * 100_000, b'{"a":[' * 50_000,
    b"[" * 100_000,
]  # fmt: skip

LINES: list[tuple[bytes, object]] = [
    (b'{"step":1}\n{"step":2}\n', [{"step": 1}, {"step": 2}]),
    (b'{"step":1}\n{"step":1}', [{"step": 1}, {"step": 1}]),
    (b'{"step":1}\r\n{"step":2}\r\n', [{"step": 1}, {"step": 2}]),
    (b'{"step":1}\r{"step":2}\r', [{"step": 1}, {"step": 2}]),
    (b'{"step":1}\r\n{"step":2}\n{"step":3}\r', [{"step": 1}, {"step": 2}, {"step": 3}]),
    (b'\n\n{"step":1}\n\n \t\n{"step":2}\n\n', [{"step": 1}, {"step": 2}]),
    (b' {"step":1} \n\t{"step":2}\t', [{"step": 1}, {"step": 2}]),
    (BOM + b'{"step":1}\n{"step":2}\n', [{"step": 1}, {"step": 2}]),
    (b"[1]\n[2]\n", [[1], [2]]),
    (b'[1]\n{"a":2}\n', [[1], {"a": 2}]),
    (b"{}\n{}", [{}, {}]),
    (b'{"loss":Infinity}\n{"loss":1e999}\n', [{"loss": INF}, {"loss": INF}]),
    ('{"a":"\u2028"}\n{"a":"\x85"}\n'.encode(), [{"a": "\u2028"}, {"a": "\x85"}]),
    (b'{"a":"\\n"}\n{"a":"}\\r"}\n', [{"a": "\n"}, {"a": "}\r"}]),
]

BYTES: list[tuple[bytes, str]] = [
    (bytes(100), "bytes"),
    (b"\0", "bytes"),
    (b"text\0text", "bytes"),
    (b'{"a":1}\0', "bytes"),
    (b"1\0", "bytes"),
    (b"\x01\x02\x03", "bytes"),
    (b"\n\x05hello\x10\x01", "bytes"),
    (b"\xff\xfe", "bytes"),
    (b"caf\xe9", "bytes"),
    (b'{"a":"\xe9"}', "bytes"),
    (b'{"\xff', "bytes"),
    ("größe"[:3].encode()[:-1], "bytes"),
    (b"\xed\xa0\x80", "bytes"),
    ("text".encode("utf-16"), "bytes"),
    ("text".encode("utf-16-le"), "bytes"),
    ('{"a":1}'.encode("utf-16-be"), "bytes"),
    ("text".encode("utf-32"), "bytes"),
    (struct.pack("<d", 0.25), "bytes"),
    (zlib.compress(b"text" * 9), "bytes"),
    (gzip.compress(b"text", mtime=0), "gzip"),
    (gzip.compress(b"text", mtime=0)[:5], "gzip"),
    (lzma.compress(b"text"), "xz"),
    (zipped(), "zip"),
    (b"PK\x03\x04 and then text", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh91AY\xff", "bzip2"),
    (b"\x89PNG\r\n\x1a\n\x00", "png"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff\xe0", "jpeg"),
    (b"GIF89a\x01\x00\x01\x00", "gif"),
    (b"RIFF\xff\x00\x00\x00WEBP", "webp"),
    (b"%PDF-1.7\n\xe2\xe3", "pdf"),
    (b"\x80\x04\x95\x05", "bytes"),
    (b"PAR1\x15\x04\xff", "bytes"),
    (PARQUET[:-1], "bytes"),
    (PARQUET[:20], "bytes"),
    (b"SQLite format 3\0", "bytes"),
]

DAMAGED: list[bytes] = [
    b"\x93NUMPY",
    b"\x93NUMPY\x01\x00\x10\x00short",
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 100_000,
    saved(np.arange(5))[:-1],
    saved(np.arange(5)) + b"x",
    saved(np.arange(5)).replace(b"(5,)", b"(9**"),
    b"PAR1....PAR1",
    b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1",
    PARQUET[:4] + PARQUET[9:],
    PARQUET + b"PAR1",
]

HEALTHY: list[tuple[bytes, str, object]] = [
    *((data, "json", value) for data, value in JSON),
    *((data, "text", data.decode()) for data in TEXT),
    *((data, "jsonl", value) for data, value in LINES),
    *((data, name, data) for data, name in BYTES),
]


def same(value: object, wanted: object) -> bool:
    """Tell whether two values are equal, of one type, and of one sign."""
    return type(value) is type(wanted) and (value == wanted or value is wanted) and repr(value) == repr(wanted)


@pytest.mark.parametrize(("data", "name", "value"), HEALTHY, ids=range(len(HEALTHY)))
def test_healthy_bytes_are_json_lines_of_it_the_very_text_or_bytes(data: bytes, name: str, value: object) -> None:
    """What other programs write is never damaged, and each value has one format, with a name."""
    assert format_of(data) == name
    for read in (decode, decode_text):
        assert read(data) == value
        assert type(read(data)) is type(value)
        assert len(data) > 4000 or repr(read(data)) == repr(value)


def test_nan_reads_inside_an_object() -> None:
    """NaN, as Python's json writes it, is a number in an object, an array or a line."""
    assert math.isnan(decode(b'{"loss":NaN}')["loss"])
    assert math.isnan(decode(b"[NaN]")[0])
    assert math.isnan(decode(b'{"loss":1}\n{"loss":NaN}\n')[1]["loss"])


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"step":1}\n', [{"step": 1}]),
        (b'{"step":1}', [{"step": 1}]),
        (b"[1]\r\n", [[1]]),
        (BOM + b'{"step":1}\n', [{"step": 1}]),
        (b'{"step":1}\n{"step":2}\n', [{"step": 1}, {"step": 2}]),
        (b'{\n"step":1}\n', {"step": 1}),
        (b'{"step":1}\n{"st', '{"step":1}\n{"st'),
        (b"", ""),
    ],
)
def test_a_growing_log_keeps_its_type(data: bytes, value: object) -> None:
    """Below a key that ends as JSON Lines do one line is a list too."""
    for key in ("run/log.jsonl", "log.ndjson"):
        assert decode(data, key=key) == value == decode_text(data, key)
        assert (format_of(data, key=key) == "jsonl") == isinstance(value, list)
    assert decode(b'{"step":1}\n', key="run/jsonl") == {"step": 1}


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_only_a_signature_without_its_format_is_damaged(data: bytes) -> None:
    """What begins as npy, or begins and ends as Parquet, and is not, is a FormatError; as bytes or text it reads."""
    with pytest.raises(FormatError, match="damaged"):
        decode(data)
    assert decode(data, format="bytes") == data == decode_text(data)
    assert format_of(data) in ("npy", "parquet")


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        (b'{"step":1}\n', "jsonl", [{"step": 1}]),
        (b'1\n"a"\n\nnull\r[2]', "jsonl", [1, "a", None, [2]]),
        (b"", "jsonl", []),
        (b'{"step":1}', "text", '{"step":1}'),
        (b"1.10\n", "json", 1.1),
        (BOM + b" 42 ", "json", 42),
        (b"a\0", "text", "a\0"),
        (b"42", "bytes", b"42"),
        (PARQUET, "bytes", PARQUET),
        (b"GIF89a is a format", "gif", b"GIF89a is a format"),
    ],
)
def test_an_explicit_format_wins(data: bytes, name: str, value: object) -> None:
    """The format that is asked for is the one that is read, whatever the content looks like."""
    assert same(decode(data, format=name), value)
    assert same(decode(bytearray(data), name, key="log.jsonl"), value)


def test_explicit_csv_and_tables_read_as_tables() -> None:
    """CSV is a DataFrame, also where its cells are JSON; Parquet and npy can be asked for."""
    assert decode(b'a,b\n1,"{""x"":1}"\n', format="csv").to_dict("list") == {"a": [1], "b": ['{"x":1}']}
    assert decode(PARQUET, format="parquet")["a"].tolist() == [1, 2]
    assert decode(saved(np.arange(2)), format="npy").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"\xff", "text", "not text: .*byte 0xff"),
        (b"[1", "json", "not json: "),
        (b"[" * 100_000, "json", "not json: "),
        (b"[1]\n[2\n", "jsonl", "not jsonl: line 2: "),
        (b"", "csv", "not csv: "),
        (b"text", "npy", "damaged npy"),
        (b"text", "parquet", "damaged parquet"),
        (b"text", "png", "not png: it begins with b'text'"),
    ],
)
def test_what_is_not_of_the_explicit_format_is_a_format_error(data: bytes, name: str, message: str) -> None:
    """A value that is something else than was asked for is a FormatError that says so."""
    with pytest.raises(FormatError, match=message):
        decode(data, format=name)


def test_an_unknown_format_is_named_with_those_there_are() -> None:
    """A format that does not exist is a ValueError that lists the formats."""
    with pytest.raises(ValueError, match=r"no format 'xml'.*json, jsonl, text, csv") as caught:
        decode(b"", format="xml")
    assert not isinstance(caught.value, FormatError)


def test_nesting_reads_the_same_from_any_depth_of_the_program() -> None:
    """What reads as JSON does so from deep within a program too; it never becomes text there."""
    data = b"[" * 300 + b"]" * 300

    def deeper(depth: int) -> object:
        return deeper(depth - 1) if depth else decode(data)

    values: list[object] = []
    thread = threading.Thread(target=lambda: values.append(deeper(sys.getrecursionlimit() - 200)))
    thread.start()
    thread.join()
    assert values == [json.loads(data)]
