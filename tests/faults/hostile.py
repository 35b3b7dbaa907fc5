"""Hostile values: a few bytes each that ask for far more time, memory or stack than they are worth."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from . import parquet as pq

MEBI = 1024 * 1024
# How a process ends that unpickled what it should only have looked at.
PICKLED_END = 70
_DENSE = {"use_dictionary": False, "column_encoding": "DELTA_BINARY_PACKED"}


def hostile_values() -> dict[str, bytes]:
    """Return every hostile value by name."""
    return {**_json(), **_npy(), **_pickles(), **_lying_parquet(), **_parquet_bombs(), **_images()}


def _json() -> dict[str, bytes]:
    deep = b'{"a":[' * 50_000
    digits = b"7" * 1_000_000
    one_hash = ",".join(str(n * (2**61 - 1)) for n in range(50_000)).encode()
    ladder = "".join(f'{{"{n:0>9000}":1,"b":' for n in range(250)) + "1" + "}" * 250
    return {
        "json arrays 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
        "json objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "json both 100,000 deep, open": deep,
        "json deep in an object": b'{"a":1,"b":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "json 800 deep": b'{"a":' * 800 + b"1" + b"}" * 800,
        "json a million digits": b'{"a":' + digits + b"}",
        "json a million digits alone": digits,
        "json a million digits of a fraction": b'{"a":0.' + digits + b"e-9999999}",
        "json 2,000 numbers of 4,300 digits": b"[" + b",".join([b"7" * 4300] * 2_000) + b"]",
        "json 300,000 names": ("{" + ",".join(f'"{n}":0' for n in range(300_000)) + "}").encode(),
        "json a ladder of long names": ladder.encode(),
        "json half a pair of surrogates": b'{"\\ud800":"\\udfff","a":"\\u0000"}',
        "json a string without end": b'["' + b'\\"' * MEBI,
        "json a million quotes": b'{"a' + b'"\\' * MEBI,
        "json lines 100,000": b'{"a":[]}\n' * 100_000,
        "json lines, the last one cut": b'{"a":[]}\n' * 100_000 + b"{",
        "json a set of numbers of one hash": b'{"$py":"set","value":[' + one_hash + b"]}",
        "json a dict of numbers of one hash": b'{"$py":"dict","value":[[' + one_hash.replace(b",", b",0],[") + b",0]]}",
        "json tuples 300 deep": b'{"$py":"tuple","value":[' * 300 + b"]}" * 300,
        "json 50,000 sets": b"[" + b",".join([b'{"$py":"set","value":[1]}'] * 50_000) + b"]",
        "json an array of 10**18": b'{"$py":"ndarray","value":"'
        + b64encode(_described("'<f8'", "(999999999999,)"))
        + b'"}',
        "json an endless decimal": b'{"$py":"Decimal","value":"1e999999999999999999"}',
    }


def _header(header: bytes, content: bytes = b"", *, version: int = 1, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + header + content


def _described(descr: str, shape: str, order: str = "False") -> bytes:
    return _header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode(), bytes(64))


def _npy() -> dict[str, bytes]:
    fields = ", ".join(f"('f{n}', '<f8')" for n in range(500))
    return {
        "npy a header of 4 GiB": _header(b"{" * 100_000, version=2, length=0xFFFF_FFFF),
        "npy a header of 60 KB": _header(b"{'descr': '<f8'," + b" " * 60_000 + b"}"),
        "npy a header 5,000 deep": _header(b"(" * 5_000),
        "npy a header of signs": _header(b"-" * 9_000),
        "npy a header of a broken text": _header(b"{'descr': '''<f8"),
        "npy a header of bytes": _header(bytes(range(256)) * 8),
        "npy a shape of 10**18": _described("'<f8'", "(1000000000000000000,)"),
        "npy a shape beyond 64 bits": _described("'<f8'", f"({'9' * 4000}, 2)"),
        "npy a shape below zero": _described("'<f8'", "(-8,)"),
        "npy a shape of nothing": _described("'<f8'", "(0, 1000000000000)"),
        "npy a shape of booleans": _described("'<f8'", "(True, 8)"),
        "npy columns first": _described("'<f8'", "(1000000000, 1000000000)", "True"),
        "npy items of no size": _described("'|V0'", "(1000000000000,)"),
        "npy items of 16 GB": _described("('<f8', (2000000000,))", "(1,)"),
        "npy items of a gigabyte of text": _described("'<U250000000'", "(1000000,)"),
        "npy objects": _described("'|O'", "(1,)"),
        "npy 500 fields": _described(f"[{fields}]", "(1000000,)"),
        "npy fields within fields": _described("[('a', " * 60 + "'<f8'" + ")]" * 60, "(1,)"),
        "npy times that are none": _described("'<M8[-9999999999D]'", "(8,)"),
    }


class _Ends:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (PICKLED_END,)


def _pickles() -> dict[str, bytes]:
    ends = pickle.dumps(_Ends(), protocol=2)
    objects = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    return {"npy objects that run code": _header(objects, ends), "pickle that runs code": ends}


def _packed(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _lying_parquet() -> dict[str, bytes]:
    three = pq.page(struct.pack("<3q", 1, 2, 3), 3)
    honest = pq.one_column(three, 3)
    footer = struct.unpack("<I", honest[-8:-4])[0]
    nodes = [pq.element(b"a", children=1, repetition=pq.OPTIONAL) for _ in range(100_000)]
    deep = [pq.element(b"r", children=1), *nodes, pq.element(b"v", kind=pq.INT64)]
    wide = [pq.element(b"r", children=20_000), *[pq.element(b"a", kind=pq.INT64)] * 20_000]
    same = pq.column(len(three), 3)
    half = _packed(bytes(200 * MEBI))
    return {
        "parquet honest": honest,
        "parquet 10**12 rows": pq.one_column(three, 3, rows=10**12),
        "parquet 10**12 cells": pq.one_column(three, 10**12),
        "parquet a page of 10**9 cells": pq.one_column(pq.page(struct.pack("<3q", 1, 2, 3), 10**9), 10**9),
        "parquet rows below zero": pq.one_column(three, 3, rows=-3),
        "parquet a page of 2 GB": pq.one_column(pq.page(half, 3, unpacked=2**31 - 1), 3, codec=pq.ZSTD),
        "parquet a page of 200 MiB": pq.one_column(pq.page(half, 3, unpacked=200 * MEBI), 3, codec=pq.ZSTD),
        "parquet a page below zero": pq.one_column(pq.page(half, 3, unpacked=-1), 3, codec=pq.ZSTD),
        "parquet a footer of 4 GiB": honest[:-8] + b"\xff\xff\xff\xffPAR1",
        "parquet a footer of nothing": honest[:-8] + bytes(4) + b"PAR1",
        "parquet a footer cut": honest[: -footer // 2] + struct.pack("<I", footer // 2 - 8) + b"PAR1",
        "parquet 100,000 deep": pq.file(three, deep, [], 0),
        "parquet 20,000 columns of one page": pq.file(three, wide, [pq.rows_of([same] * 20_000, 3)], 3),
        "parquet 50,000 groups of one page": pq.file(three, wide[:1], [pq.rows_of([], 0)] * 50_000, 3),
        "parquet groups of more rows": pq.file(
            three, [pq.element(b"r", children=1), wide[1]], [pq.rows_of([same], 10**10)] * 9, 3
        ),
        "parquet notes 100,000 deep": pq.one_column(three, 3, notes=b"[" * 100_000),
        "parquet notes of 10**12 rows": pq.one_column(
            three, 3, notes=b'{"index_columns":[{"kind":"range","name":null,"start":0,"stop":1000000000000,"step":1}],'
            b'"column_indexes":[],"columns":[]}',
        ),
    }  # fmt: skip


def _written(table: Any, **options: Any) -> bytes:  # Any: what pyarrow takes
    store_schema = b"persistkit" in (table.schema.metadata or {})
    return pq.written(table, store_schema=store_schema, write_statistics=False, **{"compression": "zstd", **options})


def _repeated(text: str, times: int) -> Any:
    indices = pa.array(np.zeros(times, np.int32))
    return pa.DictionaryArray.from_arrays(indices, [text])


def _empty_lists(times: int) -> Any:
    return pa.ListArray.from_arrays(pa.array(np.zeros(times + 1, np.int32)), pa.array([], pa.int32()))


def _parquet_bombs() -> dict[str, bytes]:
    zeros = np.zeros(14_000_000, np.int64)
    structs = pa.StructArray.from_arrays([pa.array(zeros[:3_000_000])] * 2, ["a", "b"])
    one_list = pa.ListArray.from_arrays(pa.array([0, 14_000_000], pa.int32()), pa.array(zeros))
    tables: dict[str, tuple[Sequence[Any], dict[str, object]]] = {
        "a text of 60 KB a million times": ([_repeated("x" * 60_000, 1_000_000)], {}),
        "a text of 100 bytes a million times": ([_repeated("x" * 100, 1_000_000)], {}),
        "texts that repeat the one before": (
            [pa.array(["x" * 20_000] * 10_000)], {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        ),
        "a text of 150 MB": (
            [pa.array(["x" * 150_000_000])], {"compression": "brotli", "use_dictionary": False},
        ),
        "14,000,000 zeros": ([pa.array(zeros)], {}),
        "20,000,000 booleans": ([pa.array(np.zeros(20_000_000, bool))], {}),
        "4,000,000 empty lists": ([_empty_lists(4_000_000)], {}),
        "900,000 empty lists": ([_empty_lists(900_000)], {}),
        "a list of 14,000,000 zeros": ([one_list], {}),
        "3,000,000 structs": ([structs], {}),
        "5,000,000 dates": ([pa.array(zeros[:5_000_000].astype("i4")).cast(pa.date32())], {}),
        "5,000,000 decimals": ([pa.array(zeros[:5_000_000]).cast(pa.decimal128(38, 0))], {}),
        "5,000,000 bytes": ([pa.array([b""] * 5_000_000)], {}),
        "texts that are no UTF-8": ([pa.array([b"\xff\xfe"] * 3).cast(pa.string(), safe=False)], {}),
        "dates beyond the calendar": ([pa.array([2**31 - 1], pa.int32()).cast(pa.date32())], {}),
    }  # fmt: skip
    bombs = {
        f"parquet {name}": _written(pa.table(list(columns), [f"c{n}" for n in range(len(columns))]), **options)
        for name, (columns, options) in tables.items()
    }
    return {**bombs, **_metadata_bombs()}


def _metadata_bombs() -> dict[str, bytes]:
    """Return tables whose metadata, by which their cells and labels are made again, asks for too much."""
    numbers = np.arange(14_000_000)
    inner = b64encode(_written(pa.table({"0": numbers}), **_DENSE)).decode()
    labels = {"names": [None], "table": inner, "multi": False}
    many = {f"c{n}": {"kind": "codes", "categories": labels, "ordered": False} for n in range(20)}
    endless = {"names": [None], "range": [0, 10**12, 1]}
    objects = {"c0": {"kind": "object", "missing": "None"}}
    few = [pa.array([0], pa.int8())] * 20
    texts = _repeated("x" * 10, 4_000_000)
    return {
        "parquet numbers as objects": _with_metadata([numbers], {"cells": objects}, **_DENSE),
        "parquet times as objects": _with_metadata([numbers.view("M8[us]")], {"cells": objects}, **_DENSE),
        "parquet texts as objects": _with_metadata([texts], {"cells": objects}),
        "parquet texts of Python": _with_metadata(
            [texts], {"cells": {"c0": {"kind": "text", "storage": "python", "missing": "NA"}}}
        ),
        "parquet large labels of 20 columns": _with_metadata(few, {"cells": many}),
        "parquet a range of columns": _with_metadata(few, {"columns": {"names": [None], "range": [0, 10**15, 1]}}),
        "parquet a range of 16,777,216 rows": _with_metadata(few, {"index": {"names": [None], "range": [0, 2**24, 1]}}),
        "parquet a range of categories": _with_metadata(few, {"cells": {"c0": {**many["c0"], "categories": endless}}}),
        "parquet cells of empty lists": _with_metadata(
            [_repeated("[" + "[]," * 30_000 + "[]]", 2_000)], {"cells": {"c0": {"kind": "json"}}}
        ),
    }


def _with_metadata(columns: Sequence[Any], metadata: dict[str, Any], **options: Any) -> bytes:
    table = pa.table(list(columns), [f"c{n}" for n in range(len(columns))])
    return _written(table.replace_schema_metadata({b"persistkit": json.dumps(metadata).encode()}), **options)


def _images() -> dict[str, bytes]:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(10 * MEBI)))
    return {
        "image png of 100,000 by 100,000": b"\x89PNG\r\n\x1a\n" + huge + body + chunk(b"IEND", b""),
        "image png cut": b"\x89PNG\r\n\x1a\n" + huge[:10],
        "image gif of 65,535 by 65,535": b"GIF89a\xff\xff\xff\xff" + bytes(90),
        "zip": b"PK\x03\x04" + zlib.compress(bytes(10 * MEBI)),
        "gzip": b"\x1f\x8b" + zlib.compress(bytes(10 * MEBI)),
    }
