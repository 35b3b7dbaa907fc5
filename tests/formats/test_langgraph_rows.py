"""LangGraph's rows as values: plain data, nothing imported, and damage or malice is a FormatError in time."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgpack
import numpy as np
import pytest
from payloads import (
    ARGUMENTS,
    ARRAY,
    KEYWORDS,
    METHOD,
    ONE,
    PYDANTIC_1,
    PYDANTIC_2,
    SNAPSHOT,
    ext,
    in_a_process,
    mutants,
)

from persistkit.errors import FormatError
from persistkit.formats import decode, decode_text, encode, format_of
from persistkit.formats.langgraph import decode_payload, row_text
from persistkit.rows import MAGIC, row_head


def read(value: Any) -> Any:
    """Return what a payload of msgpack is read as."""
    return decode_payload("msgpack", msgpack.packb(value))


def row(*parts: tuple[list[str], str, bytes], **columns: Any) -> bytes:
    """Return a row of LangGraph's tables as a value."""
    head = row_head(columns, [(path, kind, len(data)) for path, kind, data in parts])
    return head + b"".join(data for _, _, data in parts)


@pytest.mark.parametrize(
    ("packed", "value"),
    [
        (ext(ONE, "app", "Mood", "calm"), {"$class": "app.Mood", "value": "calm"}),
        (ext(ARGUMENTS, "langgraph.types", "Send", ["n", 1]), {"$class": "langgraph.types.Send", "args": ["n", 1]}),
        (ext(ARGUMENTS, "re", "compile", ["(a+)+$", 0]), {"$class": "re.compile", "args": ["(a+)+$", 0]}),
        (ext(KEYWORDS, "app", "Budget", {"tokens": 1}), {"$class": "app.Budget", "tokens": 1}),
        (ext(KEYWORDS, "app", "Odd", {"$class": 1}), {"$class": "app.Odd", "value": {"$class": 1}}),
        (ext(PYDANTIC_1, "gone.app", "Plan", {"goal": "x"}), {"$class": "gone.app.Plan", "goal": "x"}),
        (ext(PYDANTIC_2, "app", "A", {"b": ext(ONE, "app", "B", 1)}, "model_validate_json"),
         {"$class": "app.A", "b": {"$class": "app.B", "value": 1}}),
        (ext(METHOD, "datetime", "datetime", "2026-11-25T10:00:00+00:00", "fromisoformat"),
         datetime(2026, 11, 25, 10, tzinfo=UTC)),
        (ext(METHOD, "datetime", "datetime", "no time", "fromisoformat"),
         {"$class": "datetime.datetime", "value": "no time"}),
        (ext(ARGUMENTS, "datetime", "date", [2026, 11, 25]), date(2026, 11, 25)),
        (ext(ARGUMENTS, "datetime", "timedelta", [1, 2, 3]), timedelta(1, 2, 3)),
        (ext(KEYWORDS, "datetime", "time", {"hour": 3, "tzinfo": None}), time(3)),
        (ext(ONE, "uuid", "UUID", "0" * 32), UUID(int=0)),
        (ext(ONE, "decimal", "Decimal", "1.50"), Decimal("1.50")),
        (ext(ONE, "builtins", "set", [1, "a"]), {1, "a"}),
        (ext(ONE, "builtins", "set", [[1]]), {"$class": "builtins.set", "value": [[1]]}),
        (ext(ARGUMENTS, "pathlib", "PosixPath", ["/", "tmp"]), Path("/tmp")),  # noqa: S108 - no file
        (ext(SNAPSHOT, 1, 2), [1, 2]),
        (msgpack.ExtType(99, b"x"), {"$ext": 99, "data": b"x"}),
        ({1: "a", None: b"b", 2.5: True}, {1: "a", None: b"b", 2.5: True}),
    ],
)  # fmt: skip
def test_objects_are_plain_data(packed: Any, value: Any) -> None:
    """A class keeps its module, name and data; what Python has a word for is that."""
    assert read(packed) == value
    assert type(read(packed)) is type(value)


def test_keys_that_no_dict_takes_are_text() -> None:
    """Tuples and objects as the keys of a dict are text: the rest of the value is not lost."""
    packed = b"\x82" + msgpack.packb([1, 2]) + b"\xa1a" + msgpack.packb(ext(ONE, "uuid", "UUID", "0" * 32)) + b"\xa1b"
    assert decode_payload("msgpack", packed) == {"[1, 2]": "a", str(UUID(int=0)): "b"}


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.array([b"ab"]), np.zeros((0, 4), "<M8[us]")])
def test_arrays_are_arrays(array: Any) -> None:
    """An array comes back with its dtype and shape, and can be written to."""
    found = read(ext(ARRAY, array.dtype.str, array.shape, "C", array.tobytes()))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found.flags.writeable
    turned = read(ext(ARRAY, "<f8", [2, 2], "F", np.arange(4.0).tobytes()))
    assert turned.tolist() == [[0, 2], [1, 3]]
    objects = read(ext(ARRAY, "|O", [1], "C", bytes(8)))
    assert objects == {"$class": "numpy.ndarray", "dtype": "|O", "shape": [1], "data": bytes(8)}


def test_other_types_of_payload() -> None:
    """JSON with LangChain's constructors is plain data too; pickle is bytes, and is said to be."""
    constructed = {"lc": 1, "type": "constructor", "id": ["app", "Human"], "kwargs": {"content": "x"}}
    assert decode_payload("json", json.dumps([constructed]).encode()) == [{"$class": "app.Human", "content": "x"}]
    assert decode_payload("null", b"") is None
    assert decode_payload("bytes", b"x") == decode_payload("bytearray", b"x") == b"x"
    for kind in ("pickle", "msgpack+aes"):
        assert decode_payload(kind, b"x") == {"$type": kind, "data": b"x"}


def test_a_row_is_a_dict_of_its_columns() -> None:
    """Columns and payloads have their places, also those below others; the format has a name."""
    parts = (["checkpoint"], "json", b'{"v":4}'), (["checkpoint", "channel_values", "x"], "msgpack", msgpack.packb(7))
    data = row(*parts, thread_id="t\udcff")
    value = {"thread_id": "t\udcff", "checkpoint": {"v": 4, "channel_values": {"x": 7}}}
    assert decode(data) == decode_text(data) == decode(data, "langgraph") == value
    assert decode(bytearray(data)) == value
    assert format_of(data) == "langgraph"
    assert decode(encode(data)) == data
    assert json.loads(row_text(row((["value"], "msgpack", msgpack.packb(ext(ARRAY, "<f8", [1], "C", bytes(8)))))))[
        "value"
    ] == {"$class": "numpy.ndarray", "dtype": "float64", "shape": [1], "first": [0.0]}


def test_every_cut_is_damage() -> None:
    """A row that ends early, anywhere, is a FormatError; so is one that goes on."""
    data = row((["value"], "msgpack", msgpack.packb({"a": [1, "text", ext(ONE, "app", "B", 1)]})), table="writes")
    for end in range(len(MAGIC), len(data)):
        with pytest.raises(FormatError, match="damaged langgraph"):
            decode(data[:end])
    with pytest.raises(FormatError, match="damaged langgraph"):
        decode(data + b"x")


def nested(depth: int) -> bytes:
    """Return objects within objects."""
    data = msgpack.packb(1)
    for _ in range(depth):
        data = msgpack.packb(msgpack.ExtType(ONE, b"\x93\xa1a\xa1b" + data))
    return bytes(data)


HOSTILE = {
    "lists 1,000,000 deep": b"\x91" * 1_000_000,
    "dicts 100,000 deep": b"\x81\xa1a" * 100_000,
    "a list of four billion": b"\xdd\xff\xff\xff\xff",
    "a dict of four billion": b"\xdf\xff\xff\xff\xff",
    "bytes of four billion": b"\xc6\xff\xff\xff\xff",
    "lists of a million in each other": b"\xdd\x00\x0f\x42\x40" * 400 + b"\xc0" * 1_000_000,
    "5,000,000 empty dicts": b"\xdd\x00\x4c\x4b\x40" + b"\x80" * 5_000_000,
    "objects 40 deep": nested(40),
    "objects 30 deep around a megabyte": msgpack.packb(bytes(1_000_000)),
    "an object that is none": msgpack.packb(msgpack.ExtType(ONE, b"\x01")),
    "an object of no bytes": msgpack.packb(msgpack.ExtType(PYDANTIC_2, b"")),
    "an array of 10**18": msgpack.packb(ext(ARRAY, "<f8", [10**9, 10**9], "C", b"")),
    "an array below zero": msgpack.packb(ext(ARRAY, "<f8", [-1, -1], "C", bytes(8))),
    "an array of items of no size": msgpack.packb(ext(ARRAY, "|V0", [10**9], "C", b"")),
    "an array of broken order": msgpack.packb(ext(ARRAY, "<f8", [1], "X", bytes(8))),
    "an array without shape": msgpack.packb(ext(ARRAY, "<f8", None, "C", bytes(8))),
    "text that is none": b"\xa2\xff\xfe",
    "two values": b"\x01\x02",
    "nothing": b"",
    "a reserved byte": b"\xc1",
}
content = HOSTILE["objects 30 deep around a megabyte"]
for _ in range(30):
    content = msgpack.packb(msgpack.ExtType(ONE, b"\x93\xa1a\xa1b" + content))
HOSTILE["objects 30 deep around a megabyte"] = content


def test_hostile_payloads_are_damage() -> None:
    """Depth, sizes that lie and bombs are FormatErrors, within 2 s and 500 MB each."""
    assert dict(zip(HOSTILE, in_a_process(list(HOSTILE.values())), strict=True)) == dict.fromkeys(HOSTILE, "damaged")


def payloads_that_name_modules() -> list[bytes]:
    """Return objects of every code whose classes lie in modules that nobody has imported."""
    modules = ("antigravity", "this", "turtledemo", "os", "idlelib.idle", "posix", "gone.app")
    arguments: list[Any] = ["x", ["x"], {"x": 1}, None]
    return [
        bytes(msgpack.packb([ext(code, module, name, argument, "system")]))
        for code in range(6)
        for module in modules
        for name in ("system", "__class__", "A.b")
        for argument in arguments
    ]


def test_no_module_is_imported() -> None:
    """Whatever classes a payload names, no module comes in that was not there."""
    assert set(in_a_process(payloads_that_name_modules())) == {"value"}


def test_mutated_payloads_are_values_or_damage() -> None:
    """Nothing but a value or a FormatError comes of changed bytes, and no module."""
    assert set(in_a_process(mutants(500))) == {"value", "damaged"}
