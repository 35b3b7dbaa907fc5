"""What other programs may have stored: any bytes, drawn by hypothesis.

``pytest --hypothesis-profile=long tests/test_fuzz.py`` draws for minutes; what it found stands here as examples.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from faults.parquet import written
from hypothesis import given
from hypothesis import strategies as st

from persistkit.engines.files import FileEngine
from persistkit.errors import FormatError
from persistkit.formats import decode, encode, format_of
from persistkit.keys import filename_for, owner_filename_for

TEN = '/\\:*?"<>|_'


def stored() -> list[bytes]:
    """Return values of every format, small, in several shapes."""
    nested = pa.table({"a": [[1, 2], None, []], "b": [{"c": "x"}, None, {"c": "y"}], "d": [b"", b"1", None]})
    repeated = pa.table({"t": ["text"] * 50, "n": list(range(50))})
    frame = pd.DataFrame({"x": pd.Categorical(["a", "b"]), ("y", 1): [1.5, None]}, index=pd.Index([3, 4], name="i"))
    return [
        bytes(encode(frame)),
        bytes(encode(pd.Series(["a", None], name="s"))),
        written(nested),
        written(repeated, compression="zstd"),
        written(repeated, use_dictionary=False, column_encoding={"t": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}),
        written(repeated, data_page_version="2.0", write_page_index=True),
        bytes(encode(np.arange(12).reshape(3, 4))),
        bytes(encode(np.array([(1, "é")], dtype=[("ä", "i4"), ("b", "U2")]))),
        bytes(encode(np.asfortranarray(np.eye(3)))),
        b'{"a": [1, 2.5, "x", null, {"b": true}], "c": "\\ud83d\\ude00"}',
        b'{"step":1}\n{"step":2}\n',
        bytes(encode([datetime(2026, 1, 1, tzinfo=UTC), {1: (2,)}, {"x"}, np.arange(2), pd.Timestamp(0), Decimal(1)])),
        bytes(encode(pd.DataFrame({"mixed": [[1], {"a": (1,)}]}))),
    ]


STORED = stored()
edits = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6)


def edited(value: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Return a value with pieces replaced, put in or cut out."""
    data = bytearray(value)
    for place, piece, cut in changes:
        start = place % (len(data) + 1)
        data[start : start + cut] = piece
    return bytes(data)


def look(data: bytes) -> None:
    """Open a value, whole and in part: a value or a FormatError, with a name."""
    for part in (data, data[: len(data) // 2]):
        with suppress(FormatError):
            decode(part)
        assert format_of(part)


@given(st.sampled_from(STORED), edits)
def test_damaged_values_are_values_or_named_damage(value: bytes, changes: list[tuple[int, bytes, int]]) -> None:
    """A value of any format with any bytes changed loads or is a FormatError."""
    look(edited(value, changes))


@given(
    st.sampled_from([b"", b"PAR1", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b'{"', b"[", b"\x89PNG\r\n\x1a\n", b"RIFF"]),
    st.binary(),
)
def test_any_bytes_are_shown(start: bytes, rest: bytes) -> None:
    """Whatever begins like a format loads or is named damaged."""
    look(start + rest)


header_parts = st.recursive(
    st.integers()
    | st.text(max_size=6)
    | st.none()
    | st.booleans()
    | st.sampled_from(["<f8", "|V0", "<U3", "O", "<M8[D]"]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.tuples(inner),
    max_leaves=8,
)


@given(header_parts, header_parts, header_parts)
def test_any_npy_header_is_shown(descr: object, order: object, shape: object) -> None:
    """A header that says anything is an array or damage."""
    header = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode(errors="replace")
    look(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48))


@given(
    st.lists(
        st.tuples(
            st.text(TEN + "aé", max_size=6) | st.just("k" * 300),
            st.none() | st.binary(max_size=4),
            st.none() | st.binary(max_size=8) | st.text(TEN + "aé", max_size=6).map(str.encode),
        ),
        max_size=8,
    )
)
def test_any_owner_files_give_true_keys_only(files: list[tuple[str, bytes | None, bytes | None]]) -> None:
    """Whatever an owner file says, each key listed belongs to its file and loads it; a repair leaves all values."""
    with TemporaryDirectory() as folder:
        for key, value, owner in files:
            name = filename_for(key)
            for path, content in ((name, value), (owner_filename_for(name), owner)):
                if content is not None:
                    Path(folder, path).write_bytes(content)
        engine = FileEngine(folder, fsync=False)
        stored = {path.name: path.read_bytes() for path in Path(folder).glob("*.bin")}
        engine.check(repair=True)
        entries = list(engine.entries())
        assert {entry.filename: engine.load_filename(entry.filename) for entry in entries} == stored
        assert engine.list_keys() == sorted(entry.key for entry in entries if entry.key is not None)
        for entry in entries:
            if entry.key is not None:
                assert filename_for(entry.key) == entry.filename
                assert engine.load(entry.key) == stored[entry.filename]
