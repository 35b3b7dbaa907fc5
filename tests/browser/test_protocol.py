"""The browser without a kernel: what Python answers to each request of a page, hostile ones included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import obstore.store
import pytest
import traitlets

from persistkit import (
    BlockingBackend,
    FilePersistenceBackend,
    MemoryPersistenceBackend,
    browse,
)
from persistkit.backend import Entry, PersistenceBackend
from persistkit.backends import open_backend
from persistkit.backends.objects import ObjectPersistenceBackend
from persistkit.browser import KeyBrowser
from persistkit.operations import BytesLike

Message = dict[str, Any]  # JSON of the page


def opened(values: dict[str, bytes], **options: Any) -> tuple[KeyBrowser, BlockingBackend]:
    """Return a listed browser over values in memory, and the values' backend."""
    backend = BlockingBackend(MemoryPersistenceBackend())
    backend.batch_save(values)
    browser = KeyBrowser(backend.backend, **options)
    assert browser.wait(timeout_seconds=10)
    return browser, backend


def ask(browser: KeyBrowser, op: str, **content: Any) -> Message:
    """Ask as a page asks, and read the answer as a page reads it."""
    answer, _ = browser.handle({"op": op, "view": 1, "id": 2, "revision": 1, **content})
    assert (answer["op"], answer["view"], answer["id"]) == (op, 1, 2)
    json.dumps(answer).encode()
    return answer


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
    assert browser.selected is None


def test_read_only_refuses_in_python() -> None:
    """The default browser refuses marks and deletions, whatever the page or even Python's own traits say."""
    browser, backend = opened({"a": b"1"})
    assert "read only" in ask(browser, "mark", rows=[0], on=True)["error"]
    browser.marked = ("a",)
    assert "read only" in ask(browser, "delete", count=1)["error"]
    assert backend.load("a") == b"1"


def test_marked_values_are_deleted() -> None:
    """What is marked is deleted after its count is confirmed; a wrong count deletes nothing."""
    browser, backend = opened({"a": b"1", "b": b"2", "c": b"3"}, read_only=False)
    ask(browser, "mark", rows=[0, 2], on=True)
    assert browser.marked == ("a", "c")
    assert "nothing was deleted" in ask(browser, "delete", count=3)["error"]
    assert backend.list_keys() == ["a", "b", "c"]
    answer = ask(browser, "delete", count=2)
    assert (answer["deleted"], answer["failures"], backend.list_keys()) == (2, [], ["b"])
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "page")["total"] == 1


def test_nothing_newer_than_what_was_seen_is_deleted() -> None:
    """A value saved after the listing is kept, and the reason shown by key; the others go."""
    browser, backend = opened({"old": b"1", "new": b"2"}, read_only=False)
    ask(browser, "mark", rows=[0, 1], on=True)
    backend.save("new", b"changed")
    answer = ask(browser, "delete", count=2)
    assert (answer["deleted"], answer["failed"]) == (1, 1)
    assert answer["failures"][0][0] == "new"
    assert backend.load("new") == b"changed"
    assert browser.marked == ("new",)


class Busy(MemoryPersistenceBackend):
    """Is saved to by somebody else while it is listed."""

    blocking_core = None  # type: ignore[assignment]  # listed through ``entries``
    saves = 0

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List, and have ``late`` saved once the second listing has told of it."""
        async for entry in super().entries(prefix):
            yield entry
        self.saves += 1
        if self.saves == 2:
            await self.save("late", b"newer")


def test_a_save_during_the_last_look_is_noticed() -> None:
    """What is saved while the values are compared is looked at again, and kept."""
    backend = Busy()
    blocking = BlockingBackend(backend)
    blocking.batch_save({"early": b"1", "late": b"2"})
    browser = KeyBrowser(backend, read_only=False)
    assert browser.wait(timeout_seconds=10)
    ask(browser, "mark", rows=[0, 1], on=True)
    assert ask(browser, "delete", count=2)["deleted"] == 1
    assert (blocking.load("early"), blocking.load("late")) == (None, b"newer")


class FailingDelete(MemoryPersistenceBackend):
    """Refuses to delete one key."""

    async def delete(self, key: str) -> None:
        """Refuse ``stuck``."""
        if key == "stuck":
            raise OSError("the disk said no")
        await super().delete(key)

    async def batch_delete(self, keys: Any) -> None:
        """Delete one by one."""
        await PersistenceBackend.batch_delete(self, keys)


def test_each_failed_deletion_is_shown() -> None:
    """A key the backend refuses to delete is reported with its reason; the other is gone."""
    backend = FailingDelete()
    blocking = BlockingBackend(backend)
    blocking.batch_save({"stuck": b"1", "free": b"2"})
    browser = KeyBrowser(backend, read_only=False)
    browser.wait(timeout_seconds=10)
    ask(browser, "mark", rows=[0, 1], on=True)
    answer = ask(browser, "delete", count=2)
    assert answer["failures"] == [["stuck", "the disk said no"]]
    assert blocking.list_keys() == ["stuck"]


def test_a_stale_row_is_refused() -> None:
    """After a refresh a row number of the old listing selects nothing."""
    browser, backend = opened({"b": b"1"})
    backend.save("a", b"0")
    browser.refresh()
    browser.wait(timeout_seconds=10)
    assert "refreshed meanwhile" in ask(browser, "select", row=0)["error"]
    assert ask(browser, "select", row=0, revision=2)["details"]["key"] == "a"


def test_traits_can_be_observed_and_set() -> None:
    """A row chosen in the page sets ``selected``; a key set in Python is the page's selection; both read its value."""
    browser, _ = opened({"a": b"1", "b": b"2"}, load_line="store[{key}]")
    seen: list[str | None] = []
    browser.observe(lambda change: seen.append(change["new"]), "selected")
    answer = ask(browser, "select", row=1)
    assert (seen, browser.selected_value(), answer["details"]["line"]) == (["b"], b"2", "store['b']")
    browser.selected = "a"
    assert browser.selected_value() == b"1"
    assert ask(browser, "page")["selected"] == 0
    browser.query = "b"
    assert ask(browser, "page")["found"] == 1
    with pytest.raises(traitlets.TraitError):
        browser.match = "regex"


def test_the_selection_stays_by_key() -> None:
    """After a refresh the selection is where its key is now, and a page can be asked around it."""
    browser, backend = opened({"m": b"1"})
    browser.selected = "m"
    backend.batch_save({f"a{n:03d}": b"" for n in range(120)})
    browser.refresh()
    browser.wait(timeout_seconds=10)
    answer = ask(browser, "page", follow=True, limit=50)
    assert (answer["selected"], answer["offset"]) == (120, 100)


def test_large_values_are_read_in_part(tmp_path: Path) -> None:
    """A preview reads 64 KiB, more on demand, says of how much, and a download above its limit is refused."""
    backend = FilePersistenceBackend(tmp_path, fsync=False)
    BlockingBackend(backend).save("big", b"")
    with backend.path_for("big").open("r+b") as file:
        file.truncate(3 * 2**30)
    browser = browse(backend)
    browser.wait(timeout_seconds=10)
    answer = ask(browser, "select", row=0)
    assert (answer["preview"]["part"], answer["preview"]["steps"][0][0]) == ("first 64.0 KiB of 3.0 GiB", "Show more")
    assert ask(browser, "preview", row=0, bytes=2**20)["preview"]["part"] == "first 1.0 MiB of 3.0 GiB"
    assert "more than 32.0 MiB" in answer["details"]["download"]
    assert "32.0 MiB" in ask(browser, "download", row=0)["error"]


def test_every_part_of_a_large_value_can_be_read() -> None:
    """Parts asked for one after the other are the value, whatever kind its beginning is."""
    value = bytes(range(256)) * 10_000
    browser, _ = opened({"big": value})
    steps, read = [("", {"start": 0, "bytes": 2**20})], b""
    while steps and steps[-1][0] != "Back":
        answer, buffers = browser.handle({"op": "preview", "row": 0, "revision": 1, "kind": "hex", **steps[-1][1]})
        steps, read = answer["preview"]["steps"], read + buffers[0]
    assert read == value


def test_a_large_image_is_dumped_in_part() -> None:
    """An image is read whole to be drawn, and in part to be dumped, as text or when it cannot be drawn."""
    pixels = b"\x89PNG\r\n\x1a\n" + bytes(3_000_000)
    browser, _ = opened({"image": pixels})
    for kind, length in ((None, 2**20), ("hex", 2**16)):
        answer, buffers = browser.handle({"op": "preview", "row": 0, "revision": 1, "kind": kind})
        assert (answer["preview"]["kind"], len(buffers[0])) == ("hex", length)


def test_a_download_is_the_value() -> None:
    """The buffer of a download is the stored value, byte for byte."""
    browser, _ = opened({"a/b": bytes(range(256))})
    answer, buffers = browser.handle({"op": "download", "row": 0, "revision": 1})
    assert buffers == [bytes(range(256))]
    assert answer["filename"] == "a_b-000000000b8855f7.bin"


@pytest.mark.parametrize("engine", ["memory", "files", "sqlite"])
def test_a_second_writer_is_noticed(engine: str, tmp_path: Path) -> None:
    """The change token tells of a save by somebody else, until the listing is made again."""
    address = {"memory": "memory:", "files": str(tmp_path), "sqlite": f"sqlite:///{tmp_path / 'state.db'}"}[engine]
    ours = open_backend(address, create=True)
    theirs = BlockingBackend(ours if engine == "memory" else open_backend(address, create=True))
    theirs.save("a", b"1")
    browser = KeyBrowser(ours)
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "page")["live"] is True
    await_unchanged(browser)
    theirs.save("b", b"2")
    assert ask(browser, "poll")["changed"] is True
    ask(browser, "refresh")
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "page")["total"] == 2
    await_unchanged(browser)
    theirs.close()
    BlockingBackend(ours).close()


def await_unchanged(browser: KeyBrowser) -> None:
    """Wait until the poll says that nothing changed: a directory touched a moment ago counts as changed."""
    deadline = time.monotonic() + 30
    while ask(browser, "poll")["changed"]:
        assert time.monotonic() < deadline
        browser.refresh()
        browser.wait(timeout_seconds=10)


class Slow(PersistenceBackend):
    """Three methods and a listing that waits to be let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    async def save(self, key: str, value: BytesLike) -> None:
        """Store nothing."""

    async def load(self, key: str) -> bytes | None:
        """Hold one value."""
        return b"{}" if key == "k" else None

    async def delete(self, key: str) -> None:
        """Remove nothing."""

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List one key, late."""
        import anyio.to_thread

        await anyio.to_thread.run_sync(self.go.wait)
        if "k".startswith(prefix):
            yield Entry("k", 2, None, "k-0000000000001670.bin")

    def __repr__(self) -> str:
        return "Slow()"


def test_a_listing_that_goes_on_is_said() -> None:
    """The saved form waits two seconds at most, then says that it is still listing; it is whole afterwards."""
    backend = Slow()
    browser = browse(backend)
    assert not browser.wait(timeout_seconds=0.01)
    data, _ = browser._repr_mimebundle_()
    assert data["text/plain"] == "KeyBrowser(Slow: still listing)"
    assert ask(browser, "page")["listing"] is True
    backend.go.set()
    assert browser.wait(timeout_seconds=10)
    data, _ = browser._repr_mimebundle_()
    assert data["text/plain"] == "KeyBrowser(Slow: 1 key, 2 B)"
    assert "<code>k</code>" in data["text/html"]


class Broken(Slow):
    """Cannot list."""

    entries = PersistenceBackend.entries


def test_a_backend_that_cannot_list_is_shown_so() -> None:
    """The reason stands in the page, in the saved form and in the repr; nothing raises."""
    browser = browse(Broken())
    browser.wait(timeout_seconds=10)
    assert "cannot list its keys" in ask(browser, "page")["problem"]
    assert "cannot list its keys" in repr(browser)


def test_a_key_that_cannot_be_known_is_shown_by_filename(tmp_path: Path) -> None:
    """A file whose key nothing tells is listed, previewed and read by its filename, and cannot be marked."""
    (tmp_path / "a_b-0000000000000001.bin").write_bytes(b'{"lost": true}')
    browser = KeyBrowser(FilePersistenceBackend(tmp_path), read_only=False)
    browser.wait(timeout_seconds=10)
    row = ask(browser, "page")["rows"][0]
    assert row[1:4] + row[5:] == ["a_b-0000000000000001.bin", "14 B", 14, 0, 0]
    answer = ask(browser, "select", row=0)
    assert (answer["details"]["key"], answer["preview"]["kind"]) == (None, "json")
    assert browser.selected_value() == b'{"lost": true}'
    assert ask(browser, "mark", rows=[0], on=True)["marked"] == 0


def test_an_object_of_unknown_key_is_shown_too() -> None:
    """An object named like a value whose key nothing tells is previewed and read by its name."""
    store = obstore.store.MemoryStore()
    obstore.put(store, "a_b-0000000000000001.bin", b'{"lost": true}')
    browser = KeyBrowser(ObjectPersistenceBackend(store))
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "select", row=0)["preview"]["kind"] == "json"
    assert browser.selected_value() == b'{"lost": true}'


def test_half_a_character_is_refused_and_breaks_nothing() -> None:
    """A text that cannot be sent becomes neither query nor selection, and what comes after it is answered."""
    browser, _ = opened({"a": b"1"})
    assert "surrogates" in browser.handle({"op": "page", "query": "\ud800"})[0]["error"]
    for name in ("query", "selected"):
        with pytest.raises(UnicodeEncodeError):
            setattr(browser, name, "\ud800")
    assert (browser.query, browser.selected) == ("", None)
    assert ask(browser, "page")["found"] == 1


def test_what_a_saved_notebook_keeps_is_small_and_tells_no_place(tmp_path: Path) -> None:
    """The first rows are kept, labels cut as they are written out, without values and without the folder's path."""
    stored = BlockingBackend(FilePersistenceBackend(tmp_path / "private", create=True))
    stored.batch_save({"\u202e" * 338 + f":{n}": b"secret" for n in range(60)})
    browser = KeyBrowser(stored.backend)
    assert browser.wait(timeout_seconds=10)
    for thread in threading.enumerate():
        if thread.name == "persistkit-listing":
            thread.join()
    kept = json.dumps(browser.get_state()["_first"], ensure_ascii=False)
    assert kept.count("U+202E") > 50
    assert len(kept.encode()) < 30_000
    assert "secret" not in kept
    assert "private" not in kept


def test_hostile_keys_are_text_everywhere() -> None:
    """Markup, overrides, escapes and the longest keys stay text: escaped in HTML, bounded and written out in pages."""
    keys = ["<img src=x onerror=alert(1)>", "</script><script>", "\u202egnp.exe", "\x1b[31mred", "k" * 1024]
    browser, _ = opened(dict.fromkeys(keys, b"<svg onload=alert(1)>"))
    data, _ = browser._repr_mimebundle_()
    assert "<img" not in data["text/html"]
    assert "<script" not in data["text/html"]
    assert "\u202e" not in data["text/html"]
    labels = [row[1] for row in ask(browser, "page")["rows"]]
    assert max(map(len, labels)) == 200
    assert not any("\x1b" in label or "\u202e" in label for label in labels)
    for row in range(len(keys)):
        assert ask(browser, "select", row=row)["preview"]["kind"] == "text"


@pytest.mark.parametrize(
    "make", [lambda browser: repr(browser), lambda browser: browser._repr_mimebundle_()[0]["text/plain"]]
)
def test_the_repr_is_stable(make: Callable[[KeyBrowser], str]) -> None:
    """No memory address stands in what a saved notebook compares."""
    browser, _ = opened({"a": b"12"})
    assert make(browser) == "KeyBrowser(MemoryPersistenceBackend: 1 key, 2 B)"


def test_the_page_side_is_small_and_never_parses_markup() -> None:
    """Script and style travel with every instance: under 40 kB together, and no way from text to markup in them."""
    folder = Path(__file__).parents[2] / "persistkit" / "browser"
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("widget.js", "widget.css"))
    assert len((script + style).encode()) < 40_000
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc", "DOMParser"):
        assert unsafe not in script
