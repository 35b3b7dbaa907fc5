"""What goes in comes back equal and of the same type, or is refused with the path and the word to write."""

from __future__ import annotations

import io
import json
import math
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from http import HTTPMethod, HTTPStatus
from pathlib import Path, PurePosixPath
from time import process_time
from types import MappingProxyType
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import dateutil.tz  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from described import described

from persistkit.errors import FormatError
from persistkit.formats import decode, encode

BERLIN = ZoneInfo("Europe/Berlin")
EAST = timezone(timedelta(hours=5, minutes=30, seconds=7))
NAMELESS, INVENTED = (
    ZoneInfo.from_file(io.BytesIO(b"TZif" + bytes(35) + b"\1\0\0\0\4" + bytes(6) + b"UTC\0"), name)
    for name in ("my zone", "Mars/Base")
)
Point = namedtuple("Point", "x y")

WRITTEN: list[tuple[object, str]] = [
    ({"loss": 0.25, "tags": ["a", None, True]}, '{"loss":0.25,"tags":["a",null,true]}'),
    ({"loss": math.nan, "most": [-math.inf]}, '{"loss":NaN,"most":[-Infinity]}'),
    (math.inf, '{"$py":"float","value":Infinity}'),
    ("größe", "größe"),
    ("42", '"42"'),
    ("NaN", "NaN"),
    ("[INFO] started", "[INFO] started"),
    ("[1]\n[2]", r'"[1]\n[2]"'),
    ("\0", r'"\u0000"'),
    ("\ud800", r'"\ud800"'),
    ("PAR1....PAR1", '"PAR1....PAR1"'),
    (b"text", '{"$py":"bytes","value":"dGV4dA=="}'),
    ((1, (2,)), '{"$py":"tuple","value":[1,{"$py":"tuple","value":[2]}]}'),
    ({3, 10, 2}, '{"$py":"set","value":[10,2,3]}'),
    (frozenset("ba"), '{"$py":"frozenset","value":["a","b"]}'),
    (date(2026, 11, 25), '{"$py":"date","value":"2026-11-25"}'),
    (datetime(2026, 11, 25, 14), '{"$py":"datetime","value":"2026-11-25T14:00:00"}'),
    (datetime(2026, 11, 25, 14, tzinfo=UTC), '{"$py":"datetime","value":"2026-11-25T14:00:00+00:00"}'),
    (
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
        '{"$py":"datetime","value":"2026-10-25T02:30:00[Europe/Berlin][fold=1]"}',
    ),
    (time(14, tzinfo=EAST), '{"$py":"time","value":"14:00:00+05:30:07"}'),
    (timedelta(-1, 5), '{"$py":"timedelta","value":[-1,5,0]}'),
    (Decimal("1.10"), '{"$py":"Decimal","value":"1.10"}'),
    (UUID(int=5), '{"$py":"UUID","value":"00000000-0000-0000-0000-000000000005"}'),
    (Path("a/b"), '{"$py":"Path","value":"a/b"}'),
    (1 - 2j, '{"$py":"complex","value":[1.0,-2.0]}'),
    (range(1, 9, 2), '{"$py":"range","value":[1,9,2]}'),
    ({1: "a", "1": "b"}, '{"$py":"dict","value":[[1,"a"],["1","b"]]}'),
    ({"$py": "set", "value": []}, '{"$py":"dict","value":[["$py","set"],["value",[]]]}'),
    (np.float32(0.5), '{"$py":"numpy.float32","value":0.5}'),
    (np.datetime64("2026-11-25", "D"), '{"$py":"numpy.datetime64[D]","value":20782}'),
    (pd.NaT, '{"$py":"NaT","value":null}'),
    (pd.Timedelta(np.timedelta64(5, "s")), '{"$py":"Timedelta","value":[5,"s"]}'),
    (
        pd.Timestamp("2026-11-25 14:00", tz="Europe/Berlin").as_unit("s"),
        '{"$py":"Timestamp","value":["2026-11-25T13:00:00","s","Europe/Berlin",0]}',
    ),
]

# What a random value is unlikely to be.
EDGES: list[object] = [
    10**4299, 5e-324, 1e16, "", '"quoted"', "{", "PAR1", "\x93NUMPY", "null", "1.10", "a\r\n", "\ufeffa", '{"a":1}\n',
    "\x01\x02", b"12", b'{"a":1}', b"\0" * 99, b"\x93NUMPY", b"PAR1....PAR1", b"\x89PNG\r\n\x1a\n", [], {}, [[]], [{}],
    {"": {"a b": [1, "x", None]}}, {"a": "\ud800"}, {"b": 1, "a": 2}, {None: None}, {math.nan: 5}, {"$py": 1},
    {"$py": "dict", "value": [[1, 2]]}, datetime.min, datetime.max, datetime(2026, 1, 1, fold=1),
    datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2026, 1, 1, 0, 0, 0, 5, EAST), time(1, fold=1),
    timedelta.min, timedelta.max, Decimal("-NaN12"), Decimal("-0"), Decimal("1E+999"), Path(), Path("/a b/ü"),
    Path("\udcff"), complex(math.nan, -0.0), range(0), range(10**30, -5, -3), np.uint64(2**64 - 1), np.float16(0.1),
    np.str_("a\ud800"), np.str_("a\0"), np.bytes_(b"a\0"), np.datetime64(5, ("s", 10)), np.timedelta64("NaT", "ns"),
    [np.array(5.0)], {"a": np.array([], "M8[D]")}, [np.asfortranarray(np.eye(2))],
    pd.Timestamp("2026-01-01 00:00:00.000000001"), pd.Timestamp("2026", tz=EAST), pd.Timestamp(0, tz="UTC"),
    pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert("Europe/Berlin"),
    pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin"),
    pd.Timestamp(-(10**11), unit="s").as_unit("s"), pd.Timedelta("-1ns"), pd.NaT,
]  # fmt: skip

REFUSED: list[tuple[object, str]] = [
    ({"a b": {"c": [0, {"loss": object()}]}}, r'^\$\["a b"\]\.c\[1\]\.loss: object is not kept; store text, numbers'),
    ({1: [{2: object()}]}, r"^\$\[1\]\[0\]\[2\]: object"),
    (({object()},), r"^\$\[0\]\[0\]: object"),
    (10**5000, r"^\$: an integer of 16,610 bits .*hex"),
    ({10**5000: 1}, r"^\$\[<int>\]: an integer of"),
    (range(10**5000), r"^\$\[1\]: an integer of"),
    ("\ud83d\ude00", r"^\$: .*surrogates"),
    ({"a": ["ok", "\ud83d\ude00"]}, r"^\$\.a\[1\]: .*surrogates"),
    (Decimal("sNaN"), "store Decimal"),
    (datetime(2026, 1, 1, tzinfo=dateutil.tz.tzutc()), "time zone of type tzutc is not kept; use zoneinfo"),
    (OrderedDict(a=1), r"collections.OrderedDict is not kept; store dict\(value\)"),
    (defaultdict(int), r"store dict\(value\)"),
    (Counter("ab"), r"store dict\(value\)"),
    (Point(1, 2), r"store value._asdict\(\)"),
    (HTTPStatus.OK, r"store value.value"),
    ({"c": HTTPMethod.GET}, r"^\$\.c: .*store value.value"),
    ([SafeUUID.safe], r"^\$\[0\]: .*store value.value"),
    (type("Text", (str,), {})("x"), r"store str\(value\)"),
    (make_dataclass("Run", ["loss"])(0.5), r"store dataclasses.asdict\(value\)"),
    (type("Model", (), {"model_dump": dict})(), r"store value.model_dump\(\)"),
    (type("Figure", (), {"savefig": print})(), r"value.savefig\(buffer\)"),
    (PurePosixPath("a"), r"store str\(value\)"),
    (bytearray(b"x"), r"store bytes\(value\)"),
    ({"a": memoryview(b"x")}, r"^\$\.a: memoryview is not kept; store bytes\(value\)"),
    (b"text" * 300_000, r"1,200,000 bytes would load as text.*put_bytes\(key, data\).*format='bytes'"),
    ((n for n in "ab"), r"store list\(value\)"),
    (pd.NA, "store None"),
    (pd.Index([1]), r"store value.to_series\(\)"),
    (pd.Period("2026"), r"store str\(value\)"),
    ({"a": pd.DataFrame()}, r"^\$\.a: .*store it under a key of its own, as a plain pandas.DataFrame"),
    (np.longdouble(1), r"store float\(value\)"),
    (np.longlong(1), r"store value.item\(\)"),
    ([np.array([None])], r"^\$\[0\]: .*store value.tolist\(\)"),
    ([np.zeros(1, "i4,i4")], r"^\$\[0\]: .*store it under a key of its own"),
    ([np.ma.array([1, 2])], r"^\$\[0\]: .*store value.data and value.mask"),
    (np.ma.masked, r"store value.data and value.mask"),
    (np.array([[1]]).view(np.matrix), r"store numpy.asarray\(value\)"),
    (type("Frame", (pd.DataFrame,), {})(), "store it under a key of its own, as a plain pandas.DataFrame"),
    (MappingProxyType({"a": 1}), r"store dict\(value\)"),
    (io.TextIOWrapper(io.BytesIO()), r"store list\(value\)"),
    (Fraction(1, 2), r"store str\(value\)"),
    ({math.nan, -math.nan}, "store a list"),
    ({"a": dict.fromkeys([(math.nan,), (-math.nan,)])}, r"^\$\.a: .*store a list of pairs"),
    (datetime(2026, 1, 1, tzinfo=NAMELESS), "use zoneinfo.ZoneInfo"),
    (time(1, tzinfo=INVENTED), "use zoneinfo.ZoneInfo"),
    (np.array([None]), "pickle"),
    *([(np.array(["a"], dtype=np.dtypes.StringDType()), "pickle")] if hasattr(np.dtypes, "StringDType") else []),
    (np.rec.array([(1,)], dtype=[("a", "i4")]), r"recarray .*store numpy.asarray\(value\)"),
    (np.zeros(2, np.dtype("i4", metadata={"a": 1})), "come back"),
    ({n * (2**61 - 1) for n in range(5_000)}, "same hash; store a list"),
]

ARRAYS = [
    np.array(5.0),
    np.array([np.nan, -0.0, np.inf]),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10)[::2],
    np.array([1, 2], ">i4"),
    np.array([(1, 2.5)], [("größe", "i4"), ("日本", "f8")]),
    np.array([(1,)], [(("Title", "a"), "i4")]),
    np.zeros(2, [("a", "i4", (2, 2))]),
    np.array(["2026-01-01"], "M8[D]"),
    np.array(["a", "bc"]),
    np.zeros((0, 3)),
    np.zeros(2, "V3"),
]


def same(back: object, value: object) -> bool:
    """Tell whether two values are equal and of one type, all the way down."""
    return described(back) == described(value)


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=range(len(WRITTEN)))
def test_values_are_json_that_anybody_reads(value: object, text: str) -> None:
    """Each kind of value is written as documented, and comes back."""
    assert bytes(encode(value)) == text.encode()
    assert same(decode(text.encode()), value)


@pytest.mark.parametrize("key", [None, "log.jsonl"])
@pytest.mark.parametrize("value", EDGES, ids=range(len(EDGES)))
def test_values_come_back_equal_and_of_the_same_type(value: object, key: str | None) -> None:
    """Every kind that is kept comes back, alone and inside lists and dicts, below any key."""
    nested = {"a": [value, {"b": (value,)}], "c": value}
    for each in (value, [value], nested):
        assert same(decode(bytes(encode(each, key)), key=key), each)


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_would_change_is_refused_with_the_path_and_the_word_to_write(value: object, message: str) -> None:
    """A value that would come back changed is a FormatError that says where it is and what to store instead."""
    with pytest.raises(FormatError, match=message):
        encode(value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_come_back_with_dtype_shape_and_order(array: np.ndarray[Any, Any]) -> None:
    """An array comes back writable with the same items, dtype, shape and memory order."""
    back = decode(bytes(encode(array)))
    assert same(back, array)
    assert back.flags.writeable


def test_equal_sets_are_equal_bytes() -> None:
    """The order in which a set was filled does not show in what is stored."""
    items = [f"item {n}" for n in range(100)]
    assert encode({*items}) == encode({*items[50:], *items[:50]})


def test_a_list_of_objects_is_json_lines_below_a_key_of_json_lines() -> None:
    """A log that was stored as a list can be appended to by others; other values stay what they are there."""
    assert encode([{"step": 1}, (2,)], "log.jsonl") == b'{"step":1}\n{"$py":"tuple","value":[2]}\n'
    assert encode({"step": 1}, "log.ndjson") == b'{\n"step":1}'
    assert encode([{"step": 1}]) == b'[{"step":1}]'


@pytest.mark.parametrize(
    "text",
    [
        '{"$py":"date","value":"2026-11-25","more":1}', '{"$py":"date"}', '{"$py":"date","value":"25.11.2026"}',
        '{"$py":"date","value":"20261125"}', '{"$py":"datetime","value":"2026-11-25"}', '{"$py":"date","value":5}',
        '{"$py":"datetime","value":"2026-11-25T14:00:00Z"}',
    '{"$py":"datetime","value":"2026-11-25T14:00:00[No/Zone]"}',
        '{"$py":"time","value":"14:00:00[../../etc/passwd]"}', '{"$py":"timedelta","value":[0,86400,0]}',
        '{"$py":"timedelta","value":[1]}', '{"$py":"Decimal","value":"1_0"}', '{"$py":"Decimal","value":"sNaN"}',
        '{"$py":"UUID","value":"{00000000000000000000000000000005}"}', '{"$py":"Path","value":"a//b"}',
        '{"$py":"bytes","value":"d G V"}', '{"$py":"complex","value":[1,2]}', '{"$py":"range","value":[1,2,0]}',
        '{"$py":"set","value":[1,1]}', '{"$py":"set","value":[[]]}', '{"$py":"tuple","value":"ab"}',
        '{"$py":"dict","value":[["a",1]]}', '{"$py":"dict","value":[[1,2],[1,3]]}', '{"$py":"dict","value":[[1]]}',
        '{"$py":"float","value":1.5}', '{"$py":"numpy.float32","value":0.1}', '{"$py":"numpy.int8","value":300}',
        '{"$py":"numpy.object","value":1}', '{"$py":"numpy.float64","value":1}', '{"$py":"ndarray","value":"AAAA"}',
        '{"$py":"Timestamp","value":["2026","s",null,0]}', '{"$py":"Timestamp","value":[]}', '{"$py":"NaT","value":0}',
        '{"$py":"Timedelta","value":[5,"parsec"]}', '{"$py":"os.system","value":"true"}', '{"$py":null,"value":null}',
        '{"value":1}', '{"$py":["date"],"value":"2026-11-25"}',
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_tag_stays_a_dict(text: str) -> None:
    """An object that only looks like a tag is the ordinary dict that json reads, and can be stored as such."""
    value = json.loads(text)
    assert decode(text.encode()) == value
    assert type(decode(text.encode())) is dict
    assert same(decode(bytes(encode(value))), value)


def test_numbers_of_one_hash_stay_a_list() -> None:
    """A set or dict that would take minutes to fill is not made of what another program wrote."""
    numbers = [n * (2**61 - 1) for n in range(50_000)]
    for name, items in (("set", numbers), ("dict", [[number, 0] for number in numbers])):
        tagged = {"$py": name, "value": items}
        started = process_time()
        assert decode(json.dumps(tagged).encode()) == tagged
        assert process_time() - started < 2


def test_an_escaped_mark_is_not_a_tag() -> None:
    """What another program wrote with an escape is its own object."""
    assert decode(rb'{"\u0024py":"set","value":[1]}') == {"$py": "set", "value": [1]}


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle and a nesting that could not be read back are refused, never a crash; 290 levels come back."""
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(FormatError, match="containing itself"):
        encode(cycle)
    deep: object = 1
    for _ in range(290):
        deep = [deep]
    assert decode(bytes(encode(deep))) == deep
    for _ in range(20):
        deep = [deep]
    with pytest.raises(FormatError, match="nested more than 300 deep"):
        encode(deep)
