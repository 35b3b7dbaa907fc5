"""KeyBrowser: the widget, thin: traits, and an answer to each request of the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import traitlets as t

from persistkit.background import engine_of
from persistkit.browser.index import KeyIndex, Query
from persistkit.browser.listing import Listing, Snapshot
from persistkit.browser.page_widget import Answer, Message, PageWidget, joined
from persistkit.browser.reading import Reader
from persistkit.browser.rows import LABEL, folders_of, overview_of, row_of, static_table, why_empty
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.entry import Entry
from persistkit.errors import PersistenceError, ReadOnlyError
from persistkit.formats import decode
from persistkit.selection import Selection
from persistkit.text import keys_and_size, visible

__all__ = ["KeyBrowser"]

_SCRIPTS: Final = ("texts.js", "core.js", "list.js", "tree.js", "preview.js", "dialog.js", "view.js")
_REQUESTS: Final = (
    "page",
    "folders",
    "overview",
    "select",
    "kinds",
    "code",
    "compare",
    "mark",
    "delete",
    "poll",
    "refresh",
)
_READINGS: Final = ("preview", "node", "find", "copy", "download")
_PAGE_ROWS: Final = 250
_RELISTED_KEYS: Final = 20_000
_KIND_ROWS: Final = 25
_MARKS: Final = 100_000
_TOLD_MARKS: Final = 1_000
_TOLD_ROWS: Final = 1_000
_MIMEBUNDLE_SECONDS: Final = 2


class KeyBrowser(PageWidget):
    """Every key of an engine: find, read, and, when not read only, delete.

    The listing runs in the background; the page asks for what it shows and no more. Deleting is refused here, in
    Python, unless ``read_only=False``. Works without a kernel and without a running event loop.

    A notebook saved with it keeps the first keys, at most 50, with their sizes and times, and which are selected, but
    no value.

    Attributes:
        key: the key that is shown, or None; observe it, or set it to show another.
        selected_keys: the keys that are marked, in the page or here; the page and the widget's stored state know them
            up to 1,000.
        query: the text searched for.
        match: how it is searched: ``substring``, ``prefix`` or ``glob``.
        height: of the browser in the page, in pixels.

    Args:
        place: an engine, a store or a backend. Any: ``engine_of`` tells what it takes.
        selection: the keys it is about; all of them by default.
        read_only: refuse deletions, whatever the page asks for; always so where ``place`` was opened read only.
        load_line: the Python line "Copy code" gives, ``{key}`` standing for the key as a literal.
        height: of the browser, in pixels; it can be dragged.

    Raises:
        TypeError: ``place`` is nothing of the kind; the message never shows it.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> engine = MemoryEngine()
        >>> engine.save("run:1", b'{"loss": 0.25}')
        >>> browser = KeyBrowser(engine)
        >>> browser.wait(timeout_seconds=10)
        True
        >>> browser.key = "run:1"
        >>> browser.value
        {'loss': 0.25}
    """

    _esm = joined(*_SCRIPTS)
    _css = joined("base.css", "style.css")

    key = t.Unicode(None, allow_none=True).tag(sync=True)
    query = t.Unicode("").tag(sync=True)
    match = t.Enum(["substring", "prefix", "glob"], "substring").tag(sync=True)
    selected_keys = t.Tuple().tag(
        sync=True,
        to_json=lambda keys, _: list(keys) if len(keys) <= _TOLD_MARKS else None,
        from_json=lambda keys, widget: widget.selected_keys if keys is None else tuple(keys),
    )
    _first = t.Dict().tag(sync=True)  # the first rows: what stored widget state shows where no kernel answers

    def __init__(
        self,
        place: Any,
        *,
        selection: Selection | None = None,
        read_only: bool = True,
        load_line: str = "engine.load({key})",
        height: int = 440,
    ) -> None:
        self._engine = engine_of(place, "browse")
        self._reader = Reader(self._engine, load_line)
        own = {name: getattr(self, f"_{name}") for name in _REQUESTS}
        readings = {name: partial(self._read, getattr(self._reader, name)) for name in _READINGS}
        super().__init__({**own, **readings}, height=height)
        inner = self._engine.engine if isinstance(self._engine, ReadOnlyEngine) else self._engine
        self._kind = type(inner).__name__
        self._read_only = read_only or inner is not self._engine
        self._seen: Entry | None = None
        self._marks: dict[str, Entry] = {}
        self._told: dict[tuple[int, int], Entry] = {}  # by revision and row, what pages show: a click may come late
        self._found = Query()
        self._listing = Listing(self._engine, selection or Selection(), self._listed)
        self.observe(self._tell, ["key", "selected_keys", "query", "match"])
        self._listing.start()

    def __repr__(self) -> str:
        summary = keys_and_size(len(self._index), self._index.size_bytes)
        if self._listing.error is not None:
            summary = f"cannot be listed: {self._listing.error}"
        elif self._listing.running and not self._listing.snapshot.revision:
            summary = "still listing"
        return f"KeyBrowser({self._kind}: {summary})"

    @property
    def read_only(self) -> bool:
        """Whether deletions are refused."""
        return self._read_only

    @property
    def data(self) -> bytes | None:
        """The bytes of the value that is shown; None when nothing is selected or it is gone."""
        return None if self._seen is None else self._reader.load(self._seen)

    @property
    def value(self) -> Any:
        """The value that is shown, decoded as a store would; None when nothing is selected or it is gone."""
        data = self.data
        return None if data is None else decode(data, key=self.key)

    @property
    def found_keys(self) -> list[str]:
        """The keys that are found now, in the page's order (``keys`` is a word of ipywidgets itself)."""
        index = self._index
        found = (index.entry(int(row)).key for row in index.rows(self._shown()))
        return [key for key in found if key is not None]

    def _shown(self) -> Query:
        """What is searched for now, in the folder and the order that the page asked for last."""
        return replace(self._found, text=self.query, match=self.match)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the listing is complete, at most ``timeout_seconds``; tell whether that came in time."""
        return self._listing.wait(timeout_seconds)

    def refresh(self) -> None:
        """List the engine again, in the background; selection and marks stay, by key."""
        self._listing.start()

    def close(self) -> None:
        """Stop listing and remove the widget; the engine stays open."""
        if hasattr(self, "_listing"):
            self._listing.close()
        super().close()

    @t.validate("query", "key")
    def _is_text(self, proposal: Message) -> Any:
        (proposal["value"] or "").encode()  # half a character, once held, would break every later answer
        return proposal["value"]

    def _static_html(self) -> str:
        self.wait(_MIMEBUNDLE_SECONDS)
        return static_table(self._index, repr(self))

    @property
    def _index(self) -> KeyIndex:
        return self._listing.snapshot.index

    def _state(self, snapshot: Snapshot | None = None) -> Message:
        snapshot = snapshot or self._listing.snapshot
        return {
            "revision": snapshot.revision,
            "total": len(snapshot.index),
            "summary": keys_and_size(len(snapshot.index), snapshot.index.size_bytes),
            "listing": self._listing.running,
            "listed": self._listing.listed,
            "problem": None if self._listing.error is None else visible(self._listing.error),
            "live": snapshot.token is not None or len(snapshot.index) <= _RELISTED_KEYS,
            "relists": snapshot.token is None,
            "readOnly": self._read_only,
            "place": visible(repr(self._engine)),
            "query": self.query,
            "match": self.match,
            "marked": len(self.selected_keys),
            "selected": None if self._seen is None else _row_of(snapshot.index, self._seen),
        }

    def _listed(self) -> None:
        with self._lock:
            self._first = {**self._page({})[0], "place": self._kind}
            self.send({"op": "state", **self._state()})

    def _tell(self, change: Message) -> None:
        with self._lock:
            if change["name"] == "key" and (self._seen is None or self._seen.key != change["new"]):
                self._seen = self._entry_of(change["new"])
            if change["name"] == "selected_keys":
                found = {key: self._marks.get(key) or self._entry_of(key) for key in change["new"]}
                self._marks = {key: entry for key, entry in found.items() if entry is not None}
            self.send({"op": "state", "cause": change["name"], "by": self._asking, **self._state()})

    def _entry_of(self, key: str | None) -> Entry | None:
        if key is None:
            return None
        self.wait(_MIMEBUNDLE_SECONDS)
        row = self._index.find(key)
        return None if row is None else self._index.entry(row)

    def _page(self, request: Message) -> Answer:
        if "query" in request:
            self.match = request.get("match", "substring")
            self.query = request["query"]
        query = self._query_of(request)
        snapshot = self._listing.snapshot
        index, rows = snapshot.index, snapshot.index.rows(query)
        self._found = query
        limit = max(1, min(int(request.get("limit", 50)), _PAGE_ROWS))
        offset = int(request.get("offset", 0))
        state = self._state(snapshot)
        places = [] if state["selected"] is None else (rows == state["selected"]).nonzero()[0].tolist()
        if request.get("follow") and places:
            offset = places[0]
        offset = max(0, min(offset, len(rows) - 1)) // limit * limit
        shown = [row_of(index, int(row), self._marks) for row in rows[offset : offset + limit]]
        for row, *_ in shown:
            self._told.pop((snapshot.revision, row), None)
            self._told[snapshot.revision, row] = index.entry(row)
        self._told = dict(list(self._told.items())[-_TOLD_ROWS:])
        text = f"{len(rows):,} of {keys_and_size(len(index), index.size_of(rows))}"
        found = {"found": len(rows), "foundText": text if query.text or query.folder else "", "offset": offset}
        folder = {"folder": query.folder, "folderLabel": visible(query.folder), "selectedFound": bool(places)}
        empty = ("", 0) if shown else why_empty(index, state, query)
        return {**state, **found, **folder, "rows": shown, "empty": empty[0], "elsewhere": empty[1]}, []

    def _query_of(self, request: Message) -> Query:
        sort = request.get("sort", "key")
        if sort not in ("key", "size", "modified"):
            raise ValueError(f"cannot sort by {sort!r}")
        text, match = request.get("query", self.query), request.get("match", self.match)
        return Query(text, match, request.get("folder", ""), sort, bool(request.get("descending")))

    def _folders(self, request: Message) -> Answer:
        return folders_of(self._index, request.get("folder", ""), int(request.get("following", 0))), []

    def _overview(self, request: Message) -> Answer:
        snapshot = self._listing.snapshot
        told = overview_of(snapshot.index, request.get("folder", ""), self._marks)
        return {**told, "revision": snapshot.revision}, []

    def _entry_at(self, request: Message) -> Entry:
        snapshot, revision, row = self._listing.snapshot, request["revision"], request["row"]
        if revision != snapshot.revision:
            if (entry := self._told.get((revision, row))) is not None:
                return entry
            raise PersistenceError("the listing was refreshed meanwhile: choose the key again")
        if not isinstance(row, int) or not 0 <= row < len(snapshot.index):
            raise IndexError(f"no row {row!r}")
        return snapshot.index.entry(row)

    def _select(self, request: Message) -> Answer:
        if request["row"] is None:
            self._seen = self.key = None
            return {}, []
        entry = self._seen = self._entry_at(request)
        if self.key == entry.key:
            self.send({"op": "state", "cause": "key", **self._state()})
        self.key = entry.key
        return self._reader.preview(entry, request)

    def _read(self, reading: Callable[[Entry, Message], Answer], request: Message) -> Answer:
        return reading(self._entry_at(request), request)

    def _kinds(self, request: Message) -> Answer:
        rows = list(request["rows"])[:_KIND_ROWS]
        return {"kinds": [[row, *self._reader.kind(self._entry_at({**request, "row": row}))] for row in rows]}, []

    def _code(self, _request: Message) -> Answer:
        keys = list(self._marks) or ([] if self._seen is None or self._seen.key is None else [self._seen.key])
        return {"text": self._reader.code(keys)}, []

    def _compare(self, _request: Message) -> Answer:
        if len(self._marks) != 2:
            raise PersistenceError("compare: mark two keys")
        return self._reader.compare(*self._marks.values()), []

    def _mark(self, request: Message) -> Answer:
        """Mark rows, a range of what is found, all that is found, or nothing any more."""
        marks = dict(self._marks) if request["on"] or request.get("rows") else {}
        rows = request.get("rows", [])
        if "between" in request or request.get("all"):
            snapshot = self._listing.snapshot
            if request["revision"] != snapshot.revision:
                raise PersistenceError("the listing was refreshed meanwhile: mark the keys again")
            found = snapshot.index.rows(self._query_of(request) if "sort" in request else self._shown())
            first, last = sorted(request.get("between", (0, len(found))))
            rows = found[max(0, first) : last + 1].tolist()
        if len(rows) > _MARKS:
            raise PersistenceError(f"mark: at most {_MARKS:,} keys; search first")
        for row in rows:
            entry = self._entry_at({**request, "row": row})
            if entry.key is not None and request["on"]:
                marks[entry.key] = entry
            elif entry.key is not None:
                marks.pop(entry.key, None)
        self._marks = marks
        self.selected_keys = tuple(marks)
        return {"marked": len(marks)}, []

    def _delete(self, request: Message) -> Answer:
        if self._read_only:
            raise ReadOnlyError("delete: this browser is read only; open it with read_only=False")
        if request["count"] != len(self._marks):
            raise PersistenceError("delete: the marks were changed meanwhile; nothing was deleted")
        failures = self._engine.delete_unchanged(self._marks.values())
        deleted = len(self._marks) - len(failures)
        self.selected_keys = tuple(key for key in self._marks if key in failures)
        self.refresh()
        kept = [[visible(key)[:LABEL], visible(why)] for key, why in list(failures.items())[:100]]
        return {"deleted": deleted, "failed": len(failures), "failures": kept}, []

    def _poll(self, _request: Message) -> Answer:
        token = self._listing.snapshot.token
        changed = token is not None and self._engine.change_token() != token
        if token is None and len(self._index) <= _RELISTED_KEYS:  # a listing alone tells
            self.refresh()
        return {"changed": changed, "listing": self._listing.running}, []

    def _refresh(self, _request: Message) -> Answer:
        self.refresh()
        return self._state(), []


def _row_of(index: KeyIndex, entry: Entry) -> int | None:
    name = entry.filename if entry.key is None else entry.key
    return index.find(name, known=entry.key is not None)
