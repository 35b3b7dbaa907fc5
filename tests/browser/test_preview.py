"""Previews: the kind is told by content and key, everything is bounded, damage is shown as what it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from asking import npy, parquet

from persistkit import formats
from persistkit.browser.kinds import kind_of
from persistkit.browser.preview import Preview, Value, make_preview
from persistkit.text import visible

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40) + b"IEND\xaeB`\x82"
LINES = b'{"step": 1, "note": "a"}\n{"step": 2, "loss": 0.5}\n'


def shown(data: bytes, view: str | None = None, key: str | None = None, **more: Any) -> Preview:
    """Preview a value of bytes at hand."""
    return make_preview(Value.of(data, key), view, **more)


@pytest.mark.parametrize(
    ("data", "key", "kind", "view"),
    [
        (b'{"a": 1}', None, "json", "json"), (b" [1]", None, "json", "json"), (b"12.5", None, "json", "json"),
        (b"null", None, "json", "json"), (b"hello", None, "text", "text"), (b"", None, "empty", "text"),
        ("日本".encode()[:-1], None, "text", "text"), (b"\xff\x00", None, "bytes", "hex"), (PNG, None, "png", "image"),
        (b"GIF89a..;", None, "gif", "image"), (b"RIFF\x04\x00\x00\x00WEBP", None, "webp", "image"),
        (b"\xff\xd8\xff\xe0\xff\xd9", None, "jpeg", "image"), (npy(np.arange(3)), None, "npy", "table"),
        (b"<svg onload=alert(1)>", None, "svg", "image"), (b"<html><script>", None, "text", "text"),
        (b'<?xml version="1.0"?>\n<svg></svg>', None, "svg", "image"), (LINES, None, "jsonl", "table"),
        (b'{"a": 1}\n', "log.jsonl", "jsonl", "table"), (b"a,b\n1,2\n", "runs.csv", "csv", "table"),
        (b"a,b\n1,2\n", "runs", "text", "text"), (b"# Notes", "notes.md", "markdown", "markdown"),
        (b"\x80\x04K\x01.", None, "pickle", "hex"), (b"%PDF-1.7\x80", None, "pdf", "hex"),
        (b"RIFF\x24\x08\x00\x00WAVE", None, "wav", "hex"), (b"\x1f\x8b\x08\x00\xff", None, "gzip", "hex"),
        (b"PK\x03\x04\x00\x00", None, "zip", "hex"), (b"SQLite format 3\x00", None, "sqlite", "hex"),
        (b"BZh is how this text begins", None, "text", "text"), (b"%PDF- is text", None, "text", "text"),
    ],
)  # fmt: skip
def test_content_and_key_tell_the_kind(data: bytes, key: str | None, kind: str, view: str) -> None:
    """First bytes decide, and for text the end of the key; HTML, pickles and archives are never more than bytes."""
    preview = shown(data, key=key)
    assert (preview.kind.name, preview.view) == (kind, view)


def test_json_keeps_numbers_names_and_counts() -> None:
    """No digit is lost, repeated names stay, long arrays are sent in parts with their true count."""
    text = '{"n": 12345678901234567890.10, "n": 1e999, "long": [' + ",".join(["0"] * 5000) + "]}"
    assert shown(b'{"n": ' + b"9" * 6000 + b"}").body["tree"][2][0][1][0] == "number"  # more than int() takes
    tree = shown(text.encode()).body["tree"]
    assert tree[:2] == ["object", 3]
    assert tree[2][0] == ["n", ["number", "12345678901234567890.10", 0]]
    assert tree[2][1] == ["n", ["number", "1e999", 0]]
    assert tree[2][2][1][1] == 5000
    assert len(tree[2][2][1][2]) == 100


def test_every_node_can_be_reached() -> None:
    """What a message leaves out is asked for by its path, also inside of text that is JSON itself."""
    inner = json.dumps({"tool": "search", "args": list(range(250))})
    tree = shown(json.dumps({"action": inner, "a": [[[[[[1]]]]]]}).encode()).tree
    assert tree is not None
    assert tree.root()[2][0][1][3][:2] == ["object", 2]
    assert [child[1] for child in tree.children([0, 1], 200)] == [str(n) for n in range(200, 250)]
    assert tree.children([1, 0, 0, 0, 0]) == [["array", 1, [["number", "1", 0]], "1"]]
    assert tree.code([0, 1, 3], "store['k']") == "json.loads(store['k']['action'])['args'][3]"
    assert tree.find("SEARCH") == [[0, 0]]
    assert tree.find("args") == [[0, 1]]
    with pytest.raises(IndexError):
        tree.at([0, 9])


def test_a_closed_node_tells_its_content_in_one_line() -> None:
    """The summary of an object names its first members, whatever is in them, and says when there are more."""
    value = {"step": 1, "tool": "search", "deep": {"a": 1}, "more": ["x" * 90, 1, 2], **{str(n): n for n in range(20)}}
    summary = shown(json.dumps([value]).encode()).body["tree"][2][0][3]
    assert summary.startswith('step: 1, tool: "search", deep: {…}, more: […]')
    assert summary.endswith("…")
    assert len(summary) < 130


def test_json_of_some_mebibytes_is_a_tree() -> None:
    """JSON is read whole up to 4 MiB; a larger one is shown by parts, a line for each member, never parsed."""
    value = [{"i": n, "text": "some words"} for n in range(60_000)]
    small, large = json.dumps(value[:50_000]).encode(), json.dumps(value * 2).encode()
    assert shown(small).body["tree"][:2] == ["array", 50_000]
    preview = shown(large)
    assert (preview.view, "by parts" in preview.note) == ("text", True)
    assert preview.body["text"].startswith('[\n  {\n    "i": 0,\n    "text": "some words"\n  },\n  {\n')
    assert preview.body["steps"][0][0] == "Show more"


@pytest.mark.parametrize("data", [b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_deep_json_is_shown_as_text(data: bytes) -> None:
    """10,000 levels neither crash nor hang: the text is shown, with the reason."""
    preview = shown(data)
    assert preview.view == "text"
    assert "nested too deeply" in preview.note


@pytest.mark.parametrize(
    ("data", "view", "word"),
    [
        (b'{"a": 1,', "text", "not JSON"), (b"PAR1" + bytes(90), "hex", "damaged"),
        (b"\x93NUMPYxx", "hex", "damaged"), (npy(np.array(["a"]))[:-1] + b"\xff", "hex", "invalid"),
    ],
)  # fmt: skip
def test_damage_is_named_and_shown(data: bytes, view: str, word: str) -> None:
    """What cannot be read as its kind is shown as text or bytes, with the reason."""
    preview = shown(data)
    assert preview.view == view
    assert preview.note.startswith(word)


@pytest.mark.parametrize(
    "data",
    [PNG[:-12], b"GIF89a..", b"\xff\xd8\xff\xe0....", b"RIFF\xff\x00\x00\x00WEBPVP8 "],
    ids=lambda data: data[:4],
)
def test_an_image_that_is_cut_off_says_so(data: bytes) -> None:
    """An image whose end is missing is drawn as far as it goes, with a warning; a whole one has none."""
    assert "cut off" in shown(data).note
    assert shown(PNG).note == ""


def test_a_later_part_begins_with_a_whole_character() -> None:
    """A part that starts inside a character is text from the next one on, its bytes all of them."""
    data = "aé".encode() * 50
    assert shown(data, "text", start=2, size=38).body["text"].startswith("aéa")
    assert shown(data, "hex", start=2, size=38).data == data[2:40]


def test_the_next_part_is_offered_until_the_end() -> None:
    """From the first 64 KiB to a MiB, then one after the other and back, each named by where it is."""
    data = bytes(3 * 2**20)
    small, more = shown(data).body, shown(data, "hex", size=2**20).body
    assert small["steps"] == [("Show more", {"start": 0, "bytes": 2**20})]
    assert more["steps"] == [("Next", {"start": 2**20, "bytes": 2**20})]
    last = shown(data, "hex", start=2**21, size=2**20).body
    assert last["part"] == "2.0 MiB to 3.0 MiB of 3.0 MiB"
    assert last["steps"] == [("Back", {"start": 2**20, "bytes": 2**20})]
    assert shown(b"abcde").body["steps"] == []


def test_messages_are_bounded() -> None:
    """The widest values of a mebibyte become messages far smaller than themselves."""
    values = [
        json.dumps([["x" * 50] * 100] * 180),
        json.dumps("é" * 500_000),
        json.dumps({str(n): n for n in range(70_000)}),
        json.dumps([{str(n): "x" * 5000 for n in range(200)}]),
    ]
    for value in values:
        for view in (None, "table"):
            assert len(json.dumps(shown(value.encode(), view).body)) < 500_000


def test_hidden_characters_are_written_out() -> None:
    """ANSI escapes, direction overrides, zero widths and lone surrogates show, and none reaches the page."""
    assert visible("\x1b[2J\u202ea\u200bb\ud800\x7f\n") == "␛[2J⟨U+202E⟩a⟨U+200B⟩b⟨U+D800⟩␡␊"
    assert shown(b"tab\tand\r\nline\x07").body["text"] == "tab\tand\nline␇"
    assert shown(b'["\\u202e"]').body["tree"][2][0][1] == "⟨U+202E⟩"


def test_arrays_show_any_of_their_rows() -> None:
    """Any row of an array of any size comes from a few ranges, in either order, fields by name."""
    values = np.arange(300_000.0).reshape(100_000, 3)
    stored, read = npy(values), []

    def ranges(start: int, size: int) -> bytes:
        read.append(size)
        return stored[start : start + size]

    table = make_preview(Value(ranges, len(stored)), row=99_990).body
    assert (table["first"], table["total"]) == (99_950, 100_000)
    assert [float(cell if isinstance(cell, str) else cell[1]) for cell in table["rows"][1]] == values[99_951].tolist()
    assert sum(read) < 300_000
    assert shown(npy(np.asfortranarray([[1, 2], [3, 4]]))).body["rows"] == [["1", "2"], ["3", "4"]]
    fields = shown(npy(np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]))).body
    assert (fields["columns"], fields["kinds"], fields["rows"]) == (["a", "b"], ["int32", "float64"], [["1", "2.5"]])
    assert shown(npy(np.array(7))).body["rows"] == [["7"]]
    assert shown(npy(np.zeros((0, 4)))).body["rows"] == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_three_axes_is_shown_slice_by_slice(order: Any) -> None:
    """The page chooses a place on the first axes; places beyond the end are the last."""
    values = np.arange(24).reshape(2, 3, 4)
    for place, row in ((0, 0), (1, 1), (9, 1)):
        table = shown(npy(values.copy(order)), places=[place]).body
        assert table["rows"] == [[str(cell) for cell in line] for line in values[row].tolist()]
        assert table["axes"] == [[2, row]]


def test_a_small_picture_shows_an_array() -> None:
    """Numbers become a line or a heat map of a few points, what is no number nothing; large layers have none."""
    line, heat = shown(npy(np.array([0.0, np.nan, 1.0]))).body["picture"], shown(npy(np.eye(300))).body["picture"]
    assert line == [[0], [None], [255]]
    assert (len(heat) <= 100, heat[0][0], heat[0][1]) == (True, 255, 0)
    assert shown(npy(np.zeros((3000, 3000)))).body["picture"] is None
    assert shown(npy(np.array(["a", "b"]))).body["picture"] is None


def test_numbers_are_numbers_beside_missing_ones() -> None:
    """A column of numbers stays one where some are missing; digits beyond six stand in the title, cut text too."""
    frame = pd.DataFrame(
        {"loss": [0.1234567890123, None], "name": ["x" * 500, None], "n": pd.array([None, 3], "Int64")}
    )
    table = shown(parquet(pa.Table.from_pandas(frame, preserve_index=False))).body
    assert table["numeric"] == [True, False, True]
    (loss, name, n), last = table["rows"]
    assert (loss, n, last) == (["0.123457", "0.1234567890123"], None, [None, None, "3"])
    assert (len(name[0]), name[0][-1], len(name[1])) == (120, "…", 500)


@pytest.mark.parametrize("encode", [formats.encode, lambda frame: parquet(pa.Table.from_pandas(frame))])
def test_levels_of_an_index_are_no_columns(encode: Any) -> None:
    """The index of a table is counted apart and comes first, as pandas and as persistkit store it."""
    index = pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["epoch", "part"])
    table = shown(bytes(encode(pd.DataFrame({"loss": [1.0, 2, 3, 4]}, index=index)))).body
    assert (table["index"], "1 column" in table["summary"]) == (2, True)
    assert table["rows"][1] == ["1", "b", "2.0"]


def test_pages_of_a_table_follow_each_other() -> None:
    """Rows of Parquet in several groups, CSV and JSON Lines come fifty at a time, up to the last."""
    rows = range(130)
    frame = pd.DataFrame({"n": rows})
    for data, key in (
        (parquet(pa.Table.from_pandas(frame, preserve_index=False), row_group_size=60), None),
        (frame.to_csv(index=False).encode(), "a.csv"),
        (frame.to_json(orient="records", lines=True).encode(), None),
        (frame.to_json(orient="records").encode(), None),
    ):
        assert shown(data, "table", key).body["total"] == 130
        assert shown(data, "table", key, row=120).body["rows"][-1] == ["129"]
        assert shown(data, "table", key, row=50).body["rows"][0] == ["50"]


def test_objects_share_their_columns() -> None:
    """A table of objects has a column for each name, nested values as JSON, what is missing empty."""
    table = shown(b'[{"a": 0.14285714285714285}, {"a": 12345678901234}]', "table").body
    assert table["rows"] == [[["0.142857", "0.14285714285714285"]], ["12345678901234"]]
    table = shown(b'[{"a": 1, "b": {"c": [1]}}, {"a": null}, 7]', "table").body
    assert table["columns"] == ["(value)", "a", "b"]
    assert table["rows"] == [[None, "1", '{"c": [1]}'], [None, None, None], ["7", None, None]]


def test_pickled_arrays_are_never_opened() -> None:
    """An array of objects is a pickle: its bytes are shown."""
    preview = shown(npy(np.array([{}], dtype=object)))
    assert preview.view == "hex"
    assert "pickled" in preview.note


def test_a_small_table_that_unpacks_to_much_is_not_shown() -> None:
    """A Parquet file of a few megabytes whose column unpacks to 140 MB is refused before it is unpacked."""
    data = parquet(pa.table({"a": [bytes(140_000_000)]}), use_dictionary=False, write_statistics=False)
    assert len(data) < 10_000_000
    assert "needs more than" in shown(data).note


@pytest.mark.parametrize("shape", ["(-8,)", f"({'9' * 4000}, 2)", "(True,)"])
def test_a_shape_that_cannot_be_is_damage(shape: str) -> None:
    """The preview believes no shape that loading would refuse."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    preview = shown(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    assert (preview.view, preview.note) == ("hex", "damaged npy: the shape is no tuple of sizes")


def test_every_kind_can_be_switched_to_bytes() -> None:
    """Text and hex are always offered, and text of bytes that are none says so."""
    assert {"text", "hex"} < set(shown(PNG).views)
    assert shown(PNG, "hex").data == PNG
    assert "not UTF-8" in shown(PNG, "text").note
    assert kind_of(PNG).extension == ".png"
