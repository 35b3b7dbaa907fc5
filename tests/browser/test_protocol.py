"""The browser without a kernel: what Python answers to each request of a page, hostile ones included."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import traitlets
from asking import OPERATIONS, Message, ask, listed, opened
from ipywidgets import Widget  # type: ignore[import-untyped]

from persistkit import Store, browse
from persistkit.browser import KeyBrowser
from persistkit.engine import Engine
from persistkit.engines import open_engine
from persistkit.engines.memory import MemoryEngine
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.entry import Entry


def test_a_page_is_small_and_knows_the_total() -> None:
    """A page of 50 keys of 24 bytes takes less than 15 kB, and tells how many there are, never a sample."""
    browser, _ = opened({f"session:{n:08d}/{n:07d}": b"x" for n in range(5000)})
    answer = ask(browser, "page", offset=4980, limit=50)
    assert (answer["total"], answer["found"], answer["offset"], len(answer["rows"])) == (5000, 5000, 4950, 50)
    assert len(json.dumps(answer)) < 15_000
    assert answer["rows"][0][1] == "session:00004950/0004950"
    assert ask(browser, "page", query="/0000007")["found"] == 1
    assert ask(browser, "page", query="session:0000000?/*", match="glob")["found"] == 10


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "nonsense"}, {}, {"op": "page", "sort": "__class__"},
        {"op": "page", "match": "regex", "query": "(a+)+$"},
        {"op": "select", "row": -1, "revision": 1}, {"op": "select", "row": "0", "revision": 1}, {"op": "select"},
        {"op": "page", "query": 5}, {"op": "page", "limit": "x"}, {"op": ["page"]},
        {"op": "select", "row": 9**9, "revision": 1},
    ],
)  # fmt: skip
def test_a_malformed_request_is_answered(request_: Message) -> None:
    """Whatever a page sends is answered with an error text; nothing raises, nothing changes."""
    browser, _ = opened({"a": b"1"})
    answer, buffers = browser.handle(request_)
    assert "error" in answer
    assert buffers == []
    assert browser.key is None


@pytest.mark.parametrize("options", [{}, {"read_only": False}])
def test_read_only_refuses_in_python(options: Message) -> None:
    """The default browser, and any over a place that is read only, marks and never deletes, whatever a page says."""
    engine = MemoryEngine()
    engine.save("a", b"1")
    browser = listed(ReadOnlyEngine(engine) if options else engine, **options)
    assert browser.read_only
    assert ask(browser, "page")["readOnly"] is True
    ask(browser, "mark", rows=[0], on=True)
    assert browser.selected_keys == ("a",)
    assert "read only" in ask(browser, "delete", count=1)["error"]
    assert engine.load("a") == b"1"


def test_marked_values_are_deleted() -> None:
    """What is marked is deleted after its count is confirmed; a wrong count deletes nothing."""
    browser, engine = opened({"a": b"1", "b": b"2", "c": b"3"}, read_only=False)
    ask(browser, "mark", rows=[0, 2], on=True)
    assert browser.selected_keys == ("a", "c")
    assert "nothing was deleted" in ask(browser, "delete", count=3)["error"]
    assert engine.list_keys() == ["a", "b", "c"]
    answer = ask(browser, "delete", count=2)
    assert (answer["deleted"], answer["failures"], engine.list_keys()) == (2, [], ["b"])
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "page")["total"] == 1


@pytest.mark.parametrize("newer", [b"changed", b"3"])
def test_nothing_newer_than_what_was_seen_is_deleted(newer: bytes) -> None:
    """A value saved after the listing is kept, one of the same size too, and the reason shown by key; the others go."""
    browser, engine = opened({"old": b"1", "new": b"2"}, read_only=False)
    ask(browser, "mark", rows=[0, 1], on=True)
    engine.save("new", newer)
    answer = ask(browser, "delete", count=2)
    assert (answer["deleted"], answer["failed"]) == (1, 1)
    assert answer["failures"][0][0] == "new"
    assert engine.load("new") == newer
    assert browser.selected_keys == ("new",)


class FailingDelete(MemoryEngine):
    """Refuses to delete one key."""

    _delete_unchanged = Engine._delete_unchanged

    def _delete(self, key: str) -> None:
        if key == "stuck":
            raise OSError("the disk said no")
        super()._delete(key)


def test_each_failed_deletion_is_shown() -> None:
    """A key the engine refuses to delete is reported with its reason; the other is gone."""
    engine = FailingDelete()
    engine.batch_save({"stuck": b"1", "free": b"2"})
    browser = listed(engine, read_only=False)
    ask(browser, "mark", rows=[0, 1], on=True)
    answer = ask(browser, "delete", count=2)
    assert answer["failures"] == [["stuck", "the disk said no"]]
    assert engine.list_keys() == ["stuck"]


def test_a_row_is_the_key_that_was_shown_there() -> None:
    """After a refresh a row of the old listing is its old key; a range of it, and a row nobody saw, are refused."""
    browser, engine = opened({"b": b"1"})
    engine.save("a", b"0")
    browser.refresh()
    browser.wait(timeout_seconds=10)
    assert ask(browser, "select", row=0)["details"]["key"] == "b"
    ask(browser, "mark", rows=[0], on=True)
    assert (browser.key, browser.selected_keys) == ("b", ("b",))
    assert "refreshed meanwhile" in ask(browser, "mark", between=[0, 0], on=True)["error"]
    assert "refreshed meanwhile" in ask(browser, "select", row=1)["error"]
    assert ask(browser, "select", row=0, revision=2)["details"]["key"] == "a"


def test_traits_can_be_observed_and_set() -> None:
    """A row chosen in the page sets ``selected``; a key set in Python is the page's selection; both read its value."""
    browser, _ = opened({"a": b"1", "b": b"2"}, load_line="store[{key}]")
    seen: list[str | None] = []
    browser.observe(lambda change: seen.append(change["new"]), "key")
    answer = ask(browser, "select", row=1)
    assert (seen, browser.data, answer["details"]["line"]) == (["b"], b"2", "store['b']")
    browser.key = "a"
    assert browser.data == b"1"
    assert ask(browser, "page")["selected"] == 0
    browser.query = "b"
    assert browser.found_keys == ["b"]
    assert ask(browser, "page")["found"] == 1
    with pytest.raises(traitlets.TraitError):
        browser.match = "regex"


def test_code_of_marked_keys_makes_a_table_of_objects() -> None:
    """Marked JSON objects are loaded as a table; with a value among them that is none, as they are."""
    values = {"a": b'{"n": 1}', "b": b'\xef\xbb\xbf\n{"n": 2}', "c": b"[1]", "d": b'{"n": 1}\n{"n": 2}\n'}
    store = Store(MemoryEngine())
    store.engine.batch_save(values)
    browser = store.browse(height=300)
    assert (browser.wait(timeout_seconds=10), browser.height) == (True, 300)
    for keys, method in ((["a", "b"], "values_frame(keys="), (["a", "c"], "load_many("), (["a", "d"], "load_many(")):
        browser.selected_keys = tuple(keys)
        line = ask(browser, "code")["text"]
        assert line == f"store.{method}{keys})"


def test_the_selection_stays_by_key() -> None:
    """After a refresh the selection is where its key is now, and a page can be asked around it."""
    browser, engine = opened({"m": b"1"})
    browser.key = "m"
    engine.batch_save({f"a{n:03d}": b"" for n in range(120)})
    browser.refresh()
    browser.wait(timeout_seconds=10)
    answer = ask(browser, "page", follow=True, limit=50)
    assert (answer["selected"], answer["offset"]) == (120, 100)


class Ranges(MemoryEngine):
    """Notes what is read, and cannot load a whole value; sizes are listed as told."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self.read: list[tuple[int, int]] = []

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for entry in super()._entries(prefix):
            yield entry._replace(size=self._size)

    def _load(self, key: str) -> bytes | None:
        raise OSError(f"{key} was loaded whole")

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        assert key == "big"
        self.read.append((start, size))
        return b"" if start >= self._size else b"x" * min(size, self._size - start)


def test_large_values_are_read_in_part() -> None:
    """A preview is one request of 64 KiB, more on demand, says of how much, and a large download is refused."""
    engine = Ranges(3 * 2**30)
    engine.save("big", b"")
    browser = listed(engine)
    answer = ask(browser, "select", row=0)
    assert (answer["preview"]["part"], answer["preview"]["steps"][0][0]) == ("first 64.0 KiB of 3.0 GiB", "Show more")
    assert engine.read == [(0, 2**16 + 1)]
    assert ask(browser, "preview", row=0, bytes=2**20)["preview"]["part"] == "first 1.0 MiB of 3.0 GiB"
    assert ask(browser, "preview", row=0, start=2**31, bytes=2**20)["preview"]["part"].startswith("2.0 GiB to 2.0 GiB")
    assert [part for part in engine.read if part != (0, 2**16 + 1)] == [(0, 2**20 + 1), (2**31, 2**20 + 1)]
    assert "more than 32.0 MiB" in answer["details"]["download"]
    assert "32.0 MiB" in ask(browser, "download", row=0)["error"]


def test_a_value_that_grew_or_shrank_since_is_shown_as_it_is() -> None:
    """What is read tells more than an older listing: the size that is shown is that of the value."""
    browser, engine = opened({"a": b"x" * 100, "b": b"y" * 100})
    engine.save("a", b"x" * 70_000)
    engine.save("b", b"2")
    assert ask(browser, "select", row=0)["preview"]["steps"][0][0] == "Show more"
    assert ask(browser, "select", row=1)["details"]["facts"][0][1] == "1 bytes"


def test_every_part_of_a_large_value_can_be_read() -> None:
    """Parts asked for one after the other are the value, whatever kind its beginning is."""
    value = bytes(range(256)) * 10_000
    browser, _ = opened({"big": value})
    steps, read = [("", {"start": 0, "bytes": 2**20})], b""
    while steps and steps[-1][0] != "Back":
        answer, buffers = browser.handle({"op": "preview", "row": 0, "revision": 1, "show": "hex", **steps[-1][1]})
        steps, read = answer["preview"]["steps"], read + buffers[0]
    assert read == value


def test_a_large_image_is_dumped_in_part() -> None:
    """An image is read whole to be drawn, and in part to be dumped."""
    pixels = b"\x89PNG\r\n\x1a\n" + bytes(3_000_000)
    browser, _ = opened({"image": pixels})
    for kind, length in ((None, len(pixels)), ("hex", 2**16)):
        answer, buffers = browser.handle({"op": "preview", "row": 0, "revision": 1, "show": kind})
        assert (answer["preview"]["view"], len(buffers[0])) == (kind or "image", length)


def test_a_download_is_the_value() -> None:
    """The buffer of a download is the stored value, byte for byte."""
    browser, _ = opened({"a/b": bytes(range(256))})
    answer, buffers = browser.handle({"op": "download", "row": 0, "revision": 1})
    assert buffers == [bytes(range(256))]
    assert answer["filename"] == "a_b.bin"


class Odd(MemoryEngine):
    """Lists what other programs left: values without a known key, guessed keys, sizes and times that are none."""

    def _entries(self, prefix: str) -> Iterator[Entry]:
        wrong: Any = "yesterday"
        yield Entry("a>_", 5, None, "a__-000000000b8857e3.bin", ambiguous=True)
        yield Entry("b", -7, datetime.max)
        yield Entry("c", wrong, wrong)
        if not prefix:
            yield Entry(None, 14, None, "a_b-0000000000000001.bin")

    def _load(self, key: str) -> bytes | None:
        return {"a>_": b"true?", "b": b"1", "c": b"2"}[key]

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value of unknown key."""
        return b'{"lost": true}' if filename.startswith("a_b") else None


@pytest.mark.parametrize("wrapped", [Odd, lambda: ReadOnlyEngine(Odd())])
def test_a_key_that_cannot_be_known_is_shown_by_filename(wrapped: Callable[[], Engine]) -> None:
    """A value whose key nothing tells is listed, previewed and read by its filename, and has no code to copy."""
    browser = listed(wrapped())
    row = ask(browser, "page", query="0001")["rows"][0]
    assert row[1:4] + row[5:] == ["a_b-0000000000000001.bin", "14 B", 14, 0, 0]
    answer = ask(browser, "select", row=row[0])
    assert (answer["details"]["key"], answer["details"]["line"], answer["preview"]["view"]) == (None, "", "json")
    assert browser.data == b'{"lost": true}'


def test_a_key_that_cannot_be_known_is_never_marked() -> None:
    """Only what has a key can be marked for deletion."""
    browser = listed(Odd(), read_only=False)
    row = ask(browser, "page", query="0001")["rows"][0][0]
    assert ask(browser, "mark", rows=[row], on=True)["marked"] == 0


def test_a_guessed_key_is_marked_and_its_preview_tells_the_others() -> None:
    """A key that was guessed says so in the list; its preview names every other key that the filename fits."""
    browser = listed(Odd())
    row = ask(browser, "page", query="a>_")["rows"][0]
    assert row[5] == 2
    assert "'a?>'" in ask(browser, "select", row=row[0])["details"]["guessed"]
    assert (
        ask(browser, "select", row=ask(browser, "page", query="b", match="prefix")["rows"][0][0])["details"]["guessed"]
        == ""
    )


def test_odd_sizes_and_times_break_nothing() -> None:
    """Values whose size or time is none of the kind are listed, sorted, previewed and deleted."""
    browser = listed(Odd(), read_only=False)
    for sort in ("size", "modified"):
        assert ask(browser, "page", sort=sort)["found"] == 4
    for row in range(4):
        assert "error" not in ask(browser, "select", row=row)
    keys = [row[0] for row in ask(browser, "page")["rows"] if row[1] in ("b", "c")]
    ask(browser, "mark", rows=keys, on=True)
    assert ask(browser, "delete", count=2)["failures"] == []


@pytest.mark.parametrize("place", ["redis://:s3cret@host", b"redis://:s3cret@host", {"password": "s3cret"}, None])
def test_a_wrong_place_is_refused_without_its_secret(place: object) -> None:
    """An address given for an engine is refused at once, and its password is in no message."""
    with pytest.raises(TypeError, match="browse") as caught:
        browse(place)
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_half_a_character_is_refused_and_breaks_nothing() -> None:
    """A text that cannot be sent becomes neither query nor selection, and what comes after it is answered."""
    browser, _ = opened({"a": b"1"})
    assert "surrogates" in browser.handle({"op": "page", "query": "\ud800"})[0]["error"]
    for name in ("query", "key"):
        with pytest.raises(UnicodeEncodeError):
            setattr(browser, name, "\ud800")
    assert (browser.query, browser.key) == ("", None)
    assert ask(browser, "page")["found"] == 1


def test_what_a_saved_notebook_keeps_is_small_and_tells_no_place(tmp_path: Path) -> None:
    """The first rows are kept, labels cut as they are written out, without values and without the folder's path."""
    engine = open_engine(tmp_path / "private", create=True)
    engine.batch_save({"\u202e" * 338 + f":{n}": b"secret" for n in range(60)})
    browser = listed(engine)
    for thread in threading.enumerate():
        if thread.name == "persistkit-listing":
            thread.join()
    kept = json.dumps(browser.get_state()["_first"], ensure_ascii=False)
    assert kept.count("U+202E") > 50
    assert len(kept.encode()) < 30_000
    assert "secret" not in kept
    assert "private" not in kept


def test_all_that_is_sent_is_json_and_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the page, in answer or by itself, is plain JSON beside bytes: other front ends take nothing else."""
    sent: list[tuple[Message, list[bytes]]] = []
    monkeypatch.setattr(Widget, "_send", lambda _, message, buffers=None: sent.append((message, buffers or [])))
    browser, _ = opened({"a": b'{"n": [1]}', "b": b"\x89PNG\r\n\x1a\n"}, read_only=False)
    browser.key, browser.query, browser.selected_keys, browser.height = "a", "b", ("a", "b"), 300
    for number, op in enumerate(OPERATIONS):
        request = {"row": 1, "rows": [0], "on": True, "path": [], "text": "n", "count": 1, "query": ""}
        content = {"op": op, "id": number, "view": 1, "revision": 1, **request}
        browser._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    told = [message["content"] if message["method"] == "custom" else message["state"] for message, _ in sent]
    assert {message["op"] for message in told if "op" in message} == {"state", *OPERATIONS}
    json.dumps(told, allow_nan=False).encode()
    assert {type(buffer) for _, buffers in sent for buffer in buffers} == {bytes}


def test_hostile_keys_are_text_everywhere() -> None:
    """Markup, overrides, escapes and the longest keys stay text: escaped in HTML, bounded and written out in pages."""
    keys = ["<img src=x onerror=alert(1)>", "</script><script>", "\u202egnp.exe", "\x1b[31mred", "k" * 1024]
    browser, _ = opened(dict.fromkeys(keys, b"<img onerror=alert(1)>"))
    data, _ = browser._repr_mimebundle_()
    assert "<img" not in data["text/html"]
    assert "<script" not in data["text/html"]
    assert "\u202e" not in data["text/html"]
    labels = [row[1] for row in ask(browser, "page")["rows"]]
    assert max(map(len, labels)) == 200
    assert not any("\x1b" in label or "\u202e" in label for label in labels)
    for row in range(len(keys)):
        assert ask(browser, "select", row=row)["preview"]["view"] == "text"


def test_the_page_side_is_small_and_never_parses_markup() -> None:
    """Script and style travel with every instance: under 63 kB together, and no way from text to markup in them."""
    script, style = str(KeyBrowser._esm), str(KeyBrowser._css)
    assert len((script + style).encode()) < 63_000
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc", "DOMParser"):
        assert unsafe not in script
