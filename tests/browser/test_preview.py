"""Previews: the kind is told by the content, everything is bounded, damage is shown as what it is."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from persistkit.browser.preview import FIRST_BYTES, Preview, detect, make_preview, window_of
from persistkit.text import visible

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def shown(data: bytes, kind: str | None = None) -> Preview:
    """Preview a whole value."""
    return make_preview(data, len(data), kind)


def npy(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], *, allow_pickle: bool = False) -> bytes:
    """Return an array as a .npy file."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=allow_pickle)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"a": 1}', "json"), (b" [1]", "json"), (b"12.5", "json"), (b"null", "json"), (b"hello", "text"),
        (b"[INFO] begun", "text"),
        (b"", "text"), ("日本".encode()[:-1], "text"), (b"\xff\x00", "hex"), (PNG, "image"), (b"GIF89a..", "image"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image"), (b"\xff\xd8\xff\xe0", "image"), (b"\x93NUMPY", "table"),
        (b"PAR1", "table"), (b"<svg onload=alert(1)>", "text"), (b"<html><script>", "text"), (b"\x80\x04K\x01.", "hex"),
    ],
)  # fmt: skip
def test_the_content_tells_the_kind(data: bytes, kind: str) -> None:
    """First bytes decide; SVG, HTML and pickles are never more than text and bytes."""
    assert detect(data) == kind


def test_a_small_table_that_unpacks_to_much_is_not_shown() -> None:
    """A Parquet file of a few megabytes whose column unpacks to 140 MB is refused before it is unpacked."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [bytes(140_000_000)]}), stream, use_dictionary=False, write_statistics=False)
    assert len(stream.getvalue()) < 10_000_000
    assert "would unpack to more" in shown(stream.getvalue()).note


def test_json_keeps_numbers_names_and_counts() -> None:
    """No digit is lost, repeated names stay, long arrays are capped with their true count."""
    text = '{"n": 12345678901234567890.10, "n": 1e999, "long": [' + ",".join(["0"] * 5000) + "]}"
    tree = shown(text.encode()).body["tree"]
    assert tree[:2] == ["object", 3]
    assert tree[2][0] == ["n", ["number", "12345678901234567890.10", 0]]
    assert tree[2][1] == ["n", ["number", "1e999", 0]]
    assert tree[2][2][1][1] == 5000
    assert len(tree[2][2][1][2]) == 100


@pytest.mark.parametrize("data", [b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_deep_json_is_shown_as_text(data: bytes) -> None:
    """10,000 levels neither crash nor hang: the text is shown, with the depth."""
    preview = shown(data)
    assert preview.kind == "text"
    assert "10,000 levels" in preview.note


def test_a_number_of_many_digits_is_no_error() -> None:
    """Digits beyond what Python's int takes from text stay as they are written."""
    assert shown(b'{"n": ' + b"9" * 6000 + b"}").body["tree"][2][0][1][0] == "number"


@pytest.mark.parametrize(
    ("data", "kind"), [(b'{"a": 1,', "text"), (b"PAR1" + bytes(90), "hex"), (b"\x93NUMPYxx", "hex")]
)
def test_damage_is_named_and_shown(data: bytes, kind: str) -> None:
    """What cannot be read as its kind is shown as text or bytes, with the reason."""
    preview = shown(data)
    assert preview.kind == kind
    assert preview.note.startswith("damaged")


def test_a_later_part_begins_with_a_whole_character() -> None:
    """A part that starts inside a character is text from the next one on, its bytes all of them."""
    data = "aé".encode() * 50
    assert make_preview(data[2:40], len(data), start=2).body["text"].startswith("aéa")
    assert make_preview(data[2:40], len(data), "hex", start=2).data == data[2:40]
    assert make_preview(b"\xff" * 9, 90, start=9).kind == "hex"


def test_the_next_part_is_offered_until_the_end() -> None:
    """From the first 64 KiB to a MiB, then one after the other and back, each named by where it is."""
    small, more = window_of(0, FIRST_BYTES, 3 * 2**20), window_of(0, 2**20, 3 * 2**20)
    assert small["steps"] == [("Show more", {"start": 0, "bytes": 2**20})]
    assert more["steps"] == [("Next", {"start": 2**20, "bytes": 2**20})]
    last = window_of(2**21, 2**20, 3 * 2**20)
    assert last["part"] == "2.0 MiB to 3.0 MiB of 3.0 MiB"
    assert last["steps"] == [("Back", {"start": 2**20, "bytes": 2**20})]
    assert window_of(0, 5, 5)["steps"] == []


def test_a_part_of_a_large_value_is_text() -> None:
    """From its first 64 KiB a 200 MB JSON value is shown as text, never parsed."""
    preview = make_preview(b'["' + b"x" * (FIRST_BYTES - 2), 200_000_000)
    assert (preview.kind, preview.note) == ("text", "too large for a tree: shown as text")


def test_messages_are_bounded() -> None:
    """The widest JSON of a mebibyte becomes a message far smaller than itself."""
    values = [
        json.dumps([["x" * 50] * 100] * 180),
        json.dumps("é" * 500_000),
        json.dumps({str(n): n for n in range(70_000)}),
    ]
    for value in values:
        assert len(json.dumps(shown(value.encode()).body)) < 400_000


def test_hidden_characters_are_written_out() -> None:
    """ANSI escapes, direction overrides, zero widths and lone surrogates show, and none reaches the page."""
    assert visible("\x1b[2J\u202ea\u200bb\ud800\x7f\n") == "␛[2J⟨U+202E⟩a⟨U+200B⟩b⟨U+D800⟩␡␊"
    assert shown(b"tab\tand\r\nline\x07").body["text"] == "tab\tand\nline␇"
    assert shown(b'["\\u202e"]').body["tree"][2][0][1] == "⟨U+202E⟩"


def test_arrays_show_rows_and_types() -> None:
    """The first rows of an array come from its first bytes, columns in either order, fields by name."""
    table = make_preview(npy(np.arange(30_000.0).reshape(10_000, 3))[:FIRST_BYTES], 240_128).body
    assert (len(table["rows"]), table["rows"][1]) == (50, ["3.0", "4.0", "5.0"])
    assert table["summary"] == "float64 · 10,000 by 3 · first 50 rows"
    assert shown(npy(np.asfortranarray([[1, 2], [3, 4]]))).body["rows"] == [["1", "2"], ["3", "4"]]
    fields = shown(npy(np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]))).body
    assert (fields["columns"], fields["kinds"], fields["rows"]) == (["a", "b"], ["int32", "float64"], [["1", "2.5"]])
    assert shown(npy(np.array(7))).body["rows"] == [["7"]]
    assert shown(npy(np.zeros((0, 4)))).body["rows"] == []


def test_pickled_arrays_are_never_opened() -> None:
    """An array of objects is a pickle: its bytes are shown."""
    preview = shown(npy(np.array([{}], dtype=object), allow_pickle=True))
    assert preview.kind == "hex"
    assert "pickled" in preview.note


def test_parquet_shows_rows_and_types() -> None:
    """A Parquet value shows its first rows, its types and its true number of rows."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(80)), "text": ["<b>"] * 80}), sink)
    table = shown(sink.getvalue()).body
    assert (table["columns"], table["kinds"]) == (["n", "text"], ["int64", "string"])
    assert table["summary"] == "Parquet · 80 by 2 · first 50 rows"
    assert table["rows"][1] == ["1", "<b>"]
    assert table["numeric"] == [True, False]


@pytest.mark.parametrize("shape", ["(-8,)", f"({'9' * 4000}, 2)", "(True,)"])
def test_a_shape_that_cannot_be_is_damage(shape: str) -> None:
    """The preview believes no shape that loading would refuse."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    preview = shown(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    assert (preview.kind, preview.note) == ("hex", "damaged table: damaged npy: the shape is no tuple of sizes")


def test_every_kind_can_be_switched_to_bytes() -> None:
    """Text and hex are always offered, and text of bytes that are none says so."""
    preview = shown(PNG)
    assert preview.choices == ("image", "text", "hex")
    assert shown(PNG, "hex").data == PNG
    assert "not UTF-8" in shown(PNG, "text").note
