"""The browser while it lists, and what it says of changes by others."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from asking import ask, listed

from persistkit import browse
from persistkit.browser import KeyBrowser
from persistkit.browser.listing import Listing
from persistkit.engines import open_engine
from persistkit.engines.files import FileEngine
from persistkit.engines.memory import MemoryEngine
from persistkit.entry import Entry
from persistkit.errors import ListingNotSupportedError
from persistkit.keys import filename_for
from persistkit.selection import Selection


@pytest.mark.parametrize("kind", ["memory", "files", "sqlite"])
def test_a_second_writer_is_noticed(kind: str, tmp_path: Path) -> None:
    """The change token tells of a save by somebody else, until the listing is made again."""
    address = {"memory": "memory:", "files": str(tmp_path), "sqlite": f"sqlite:///{tmp_path / 'state.db'}"}[kind]
    ours = open_engine(address, create=True)
    theirs = ours if kind == "memory" else open_engine(address, create=True)
    theirs.save("a", b"1")
    browser = listed(ours)
    assert ask(browser, "page")["live"] is True
    await_unchanged(browser)
    theirs.save("b", b"2")
    assert ask(browser, "poll")["changed"] is True
    ask(browser, "refresh")
    assert browser.wait(timeout_seconds=10)
    assert ask(browser, "page")["total"] == 2
    await_unchanged(browser)
    theirs.close()
    ours.close()


class Tokenless(MemoryEngine):
    """Cannot tell whether something changed."""

    def _change_token(self) -> None:
        return None


def test_an_engine_that_cannot_tell_is_listed_again() -> None:
    """Where no token tells of a change, a poll lists again; what was found stays as long as it is the same."""
    engine = Tokenless()
    engine.save("a", b"1")
    browser = listed(engine)
    assert (ask(browser, "page")["live"], ask(browser, "page")["relists"]) == (True, True)
    for total, revision in ((1, 1), (2, 2)):
        assert ask(browser, "poll")["changed"] is False
        assert browser.wait(timeout_seconds=10)
        page = ask(browser, "page")
        assert (page["total"], page["revision"]) == (total, revision)
        engine.save("b", b"2")


def await_unchanged(browser: KeyBrowser) -> None:
    """Wait until the poll says that nothing changed: a directory touched a moment ago counts as changed."""
    deadline = time.monotonic() + 30
    while ask(browser, "poll")["changed"]:
        assert time.monotonic() < deadline
        browser.refresh()
        browser.wait(timeout_seconds=10)


class Slow(MemoryEngine):
    """Its listing waits to be let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def _entries(self, prefix: str) -> Iterator[Entry]:
        self.go.wait()
        yield from super()._entries(prefix)


def test_a_listing_that_goes_on_is_said() -> None:
    """The saved form waits two seconds at most, then says that it is still listing; it is whole afterwards."""
    engine = Slow()
    engine.save("k", b"{}")
    browser = browse(engine)
    assert not browser.wait(timeout_seconds=0.01)
    data, _ = browser._repr_mimebundle_()
    assert data["text/plain"] == "KeyBrowser(Slow: still listing)"
    assert ask(browser, "page")["listing"] is True
    engine.go.set()
    assert browser.wait(timeout_seconds=10)
    data, _ = browser._repr_mimebundle_()
    assert data["text/plain"] == "KeyBrowser(Slow: 1 key, 2 B)"
    assert "<code>k</code>" in data["text/html"]


class Unlisted(MemoryEngine):
    """Cannot list."""

    def _entries(self, prefix: str) -> Iterator[Entry]:
        raise ListingNotSupportedError(f"list {prefix!r}: this place cannot list its keys")


def test_an_engine_that_cannot_list_is_shown_so() -> None:
    """The reason stands in the page, in the saved form and in the repr; nothing raises."""
    browser = listed(Unlisted())
    assert "cannot list its keys" in ask(browser, "page")["problem"]
    assert "cannot list its keys" in repr(browser)


def test_easy_names_are_shown_while_hard_ones_are_searched_for(tmp_path: Path) -> None:
    """Where names take long to read, the keys of all others are shown soon, and the listing goes on."""
    dice = random.Random(1)
    for number in range(150):  # some twenty milliseconds each
        text = "".join("a" * dice.randrange(1, 9) + "_" for _ in range(12))
        (tmp_path / f"{text}{number}-{dice.getrandbits(64):016x}.bin").touch()
    honest = [f"session:{number}/step:{number % 7}" for number in range(1000)]
    for key in honest:
        (tmp_path / filename_for(key)).touch()
    running: Queue[bool] = Queue()
    listing = Listing(FileEngine(tmp_path), Selection(), lambda: running.put(listing.running))
    listing.start()
    try:
        while len(listing.snapshot.index) < len(honest):
            assert running.get(timeout=30)
        index = listing.snapshot.index
        assert [index.entry(row).key for row in range(len(index))] == sorted(honest)
    finally:
        listing.close()
        assert listing.wait(timeout_seconds=60)
