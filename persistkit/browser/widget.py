"""KeyBrowser: the widget, thin: traits, and an answer to each request of the page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from persistkit.browser.deletion import delete_unchanged
from persistkit.browser.fallback import static_table
from persistkit.browser.index import KeyIndex, Query, Rows
from persistkit.browser.listing import Listing
from persistkit.browser.preview import FIRST_BYTES, MORE_BYTES, make_preview, whole_limit, window_of
from persistkit.engine import Engine, Entry
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.errors import PersistenceError, ReadOnlyError
from persistkit.keys import alternatives
from persistkit.text import human_size, human_time, keys_and_size, label_of, visible

__all__ = ["KeyBrowser"]

DOWNLOAD_BYTES = 32 * 1024 * 1024
_PAGE_ROWS = 250
_LABEL = 200
_SHOWN_ALTERNATIVES = 8
_MIMEBUNDLE_SECONDS = 2
_NOT_A_REQUEST = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, t.TraitError)

Message = dict[str, Any]  # JSON to and from the page
Answer = tuple[Message, list[bytes]]


class KeyBrowser(anywidget.AnyWidget):
    """Every key of an engine: find, read, and, when not read only, delete.

    The listing runs in the background; the page asks for what it shows and no more. Deleting is refused here, in
    Python, unless ``read_only=False``. Works without a kernel and without a running event loop.

    A notebook saved with it keeps the first keys, at most 50, with their sizes and times, and no value.

    Attributes:
        selected: the key that is shown, or None; observe it, or set it to show another.
        marked: the keys marked for deletion.
        query: the text searched for.
        match: how it is searched: ``substring``, ``prefix`` or ``glob``.

    Args:
        place: an engine, a store or a backend.
        read_only: refuse marks and deletions, whatever the page asks for.
        load_line: the Python line "Copy code" gives, ``{key}`` standing for the key as a literal.

    Raises:
        TypeError: ``place`` is nothing of the kind; the message never shows it.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> engine = MemoryEngine()
        >>> engine.save("run:1", b"done")
        >>> browser = KeyBrowser(engine)
        >>> browser.wait(timeout_seconds=10)
        True
        >>> browser.selected = "run:1"
        >>> browser.selected_value()
        b'done'
    """

    _esm = Path(__file__).with_name("widget.js")
    _css = Path(__file__).with_name("widget.css")

    selected = t.Unicode(None, allow_none=True)
    marked = t.Tuple()
    query = t.Unicode("")
    match = t.Enum(["substring", "prefix", "glob"], "substring")
    _first = t.Dict().tag(sync=True)  # the first rows: what stored widget state shows where no kernel answers

    def __init__(self, place: Any, *, read_only: bool = True, load_line: str = "engine.load({key})") -> None:
        self._engine = engine_of(place, "browse")
        super().__init__()
        self._read_only = read_only or isinstance(self._engine, ReadOnlyEngine)
        self._load_line = load_line
        self._lock = threading.RLock()
        self._seen: Entry | None = None
        self._marks: dict[str, Entry] = {}
        self._asking: int | None = None  # the view whose request is being answered
        names = ("page", "folders", "select", "preview", "download", "mark", "delete", "poll", "refresh")
        self._requests: dict[str, Callable[[Message], Answer]] = {name: getattr(self, f"_{name}") for name in names}
        self._listing = Listing(self._engine, self._listed)
        self.on_msg(self._receive)
        self.observe(self._tell, ["selected", "marked", "query", "match"])
        self._listing.start()

    def __repr__(self) -> str:
        return f"KeyBrowser({type(self._inner).__name__}: {self._summary()})"

    @property
    def read_only(self) -> bool:
        """Whether marks and deletions are refused."""
        return self._read_only

    @property
    def selected_entry(self) -> Entry | None:
        """The entry that is shown, also when its key is unknown."""
        return self._seen

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the listing is complete, at most ``timeout_seconds``; tell whether that came in time."""
        return self._listing.wait(timeout_seconds)

    def refresh(self) -> None:
        """List the engine again, in the background; selection and marks stay, by key."""
        self._listing.start()

    def selected_value(self) -> bytes | None:
        """Return the whole value of the selected entry; None when nothing is selected or it is gone.

        Raises:
            StorageError: the storage refused, is gone or did not answer.
        """
        return None if self._seen is None else self._load(self._seen)

    def close(self) -> None:
        """Stop listing and remove the widget; the engine stays open."""
        if hasattr(self, "_listing"):
            self._listing.close()
        super().close()

    def handle(self, request: Message) -> Answer:
        """Answer one request of the page: a message and its buffers. What goes wrong becomes the answer's ``error``."""
        with self._lock:
            self._asking = request.get("view")
            try:
                operation = self._requests[request["op"]]
                answer, buffers = operation(request)
            except (PersistenceError, OSError) as error:
                answer, buffers = {"error": visible(str(error))}, []
            except _NOT_A_REQUEST as error:
                answer, buffers = {"error": f"not a request: {visible(str(error))[:200]}"}, []
            finally:
                self._asking = None
        return {**answer, "op": request.get("op"), "view": request.get("view"), "id": request.get("id")}, buffers

    @t.validate("query", "selected")
    def _is_text(self, proposal: Message) -> Any:
        (proposal["value"] or "").encode()  # half a character, once held, would break every later answer
        return proposal["value"]

    @t.observe("comm")
    def _answer_beside_cells(self, _change: object) -> None:
        # Without this ipykernel 7.4 lets the page wait for the running cell, once a cell or the listing sent anything.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = None

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, dict):
            with self._lock:  # sent in the order they were made: a page takes the newest for the truth
                self.send(*self.handle(content))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self.wait(_MIMEBUNDLE_SECONDS)
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data["text/plain"] = repr(self)
        data["text/html"] = static_table(self._index, repr(self))
        return data, metadata

    @property
    def _inner(self) -> Engine:
        return self._engine.engine if isinstance(self._engine, ReadOnlyEngine) else self._engine

    @property
    def _index(self) -> KeyIndex:
        return self._listing.snapshot.index

    def _summary(self) -> str:
        if self._listing.error is not None:
            return f"cannot be listed: {self._listing.error}"
        if self._listing.running and not self._listing.snapshot.revision:
            return "still listing"
        return keys_and_size(len(self._index), self._index.size_bytes)

    def _state(self) -> Message:
        snapshot = self._listing.snapshot
        return {
            "revision": snapshot.revision,
            "total": len(snapshot.index),
            "summary": keys_and_size(len(snapshot.index), snapshot.index.size_bytes),
            "listing": self._listing.running,
            "listed": self._listing.listed,
            "problem": None if self._listing.error is None else visible(self._listing.error),
            "live": snapshot.token is not None,
            "readOnly": self._read_only,
            "place": visible(repr(self._engine)),
            "query": self.query,
            "match": self.match,
            "marked": len(self.marked),
            "selected": None if self._seen is None else self._index.find_entry(self._seen),
        }

    def _listed(self) -> None:
        with self._lock:
            self._first = {**self._page({})[0], "place": type(self._inner).__name__}
            self.send({"op": "state", **self._state()})

    def _tell(self, change: Message) -> None:
        with self._lock:
            if change["name"] == "selected" and (self._seen is None or self._seen.key != change["new"]):
                self._seen = self._entry_of(change["new"])
            if change["name"] == "marked":
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
        sort = request.get("sort", "key")
        if sort not in ("key", "size", "modified"):
            raise ValueError(f"cannot sort by {sort!r}")
        query = Query(self.query, self.match, request.get("folder", ""), sort, bool(request.get("descending")))
        index, rows = self._index, self._index.rows(query)
        limit = max(1, min(int(request.get("limit", 50)), _PAGE_ROWS))
        offset = int(request.get("offset", 0))
        state = self._state()
        if request.get("follow") and state["selected"] is not None:
            places = (rows == state["selected"]).nonzero()[0]
            offset = int(places[0]) if places.size else offset
        offset = max(0, min(offset, len(rows) - 1)) // limit * limit
        shown = [self._line(index, int(row)) for row in rows[offset : offset + limit]]
        found = {"found": len(rows), "foundText": self._found(index, rows, query), "offset": offset, "limit": limit}
        return {**state, **found, "rows": shown, "empty": "" if shown else self._why_empty(state)}, []

    def _found(self, index: KeyIndex, rows: Rows, query: Query) -> str:
        narrowed = query.text or query.folder
        return f"{len(rows):,} of {keys_and_size(len(index), index.size_of(rows))}" if narrowed else ""

    def _why_empty(self, state: Message) -> str:
        if state["problem"]:
            return str(state["problem"])
        if state["listing"] and not state["revision"]:
            return f"Listing… {state['listed']:,} keys so far"
        if not state["total"]:
            return "Nothing is stored here yet."
        fits = {"substring": "contains", "prefix": "starts with", "glob": "fits"}[self.match]
        return f"No key {fits} “{visible(self.query[:_LABEL])}”. Case counts."

    def _line(self, index: KeyIndex, row: int) -> list[Any]:
        """Return row number, label, size in words and in bytes, time, 0 to 2 for the key, and whether it is marked."""
        entry = index.entry(row)
        known = 0 if entry.key is None else 2 if entry.ambiguous else 1
        size, time = human_size(entry.size), human_time(entry.modified)
        return [row, label_of(entry, _LABEL), size, entry.size, time, known, int(entry.key in self._marks)]

    def _folders(self, request: Message) -> Answer:
        above = request.get("folder", "")
        level = self._index.level(above, following=int(request.get("following", 0)))
        folders = [
            [one.path, visible(one.path[len(above) :]), f"{one.keys:,}", keys_and_size(one.keys, one.size)]
            for one in level.folders
        ]
        return {"folder": above, "folders": folders, "following": level.following}, []

    def _entry_at(self, request: Message) -> Entry:
        if request["revision"] != self._listing.snapshot.revision:
            raise PersistenceError("the listing was refreshed meanwhile: choose the key again")
        row = request["row"]
        if not isinstance(row, int) or not 0 <= row < len(self._index):
            raise IndexError(f"no row {row!r}")
        return self._index.entry(row)

    def _select(self, request: Message) -> Answer:
        if request["row"] is None:
            self._seen = self.selected = None
            return {}, []
        entry = self._seen = self._entry_at(request)
        if self.selected == entry.key:
            self.send({"op": "state", "cause": "selected", **self._state()})
        self.selected = entry.key
        return self._preview(request)

    def _preview(self, request: Message) -> Answer:
        entry = self._entry_at(request)
        start = max(0, int(request.get("start", 0)))
        wanted = max(1, min(int(request.get("bytes", FIRST_BYTES)), MORE_BYTES))
        kind = request.get("kind")
        data, size = self._read(entry, start, wanted, whole=not start and kind not in ("text", "hex"))
        preview = make_preview(data, size, kind, start=start)
        shown = {"kind": preview.kind, "choices": preview.choices, "note": preview.note, **preview.body}
        window = window_of(start, len(preview.data) if preview.kind == "hex" else len(data), size)
        return {"details": self._details(entry, request["row"], size), "preview": {**shown, **window}}, [preview.data]

    def _details(self, entry: Entry, row: int, size: int) -> Message:
        facts = [["Size", human_size(size), f"{size:,} bytes"], ["Hash", entry.filename[-20:-4], None]]
        if entry.modified is not None:
            facts.insert(1, ["Modified", f"{human_time(entry.modified)} UTC", entry.modified.isoformat()])
        return {
            "row": row,
            "key": entry.key,
            "label": visible(entry.filename if entry.key is None else entry.key),
            "facts": [*facts, ["File", visible(entry.filename), visible(entry.filename)]],
            "guessed": _guess(entry),
            "line": "" if entry.key is None else self._load_line.replace("{key}", ascii(entry.key)),
            "download": _too_large(size),
        }

    def _read(self, entry: Entry, start: int, wanted: int, *, whole: bool) -> tuple[bytes, int]:
        """Return bytes of a value from ``start``, with ``whole`` all that such a value needs, and the value's size."""
        data = self._read_range(entry, start, wanted + 1)
        if len(data) <= wanted:  # whatever an older listing says, this is where it ends
            return data, start + len(data)
        limit = whole_limit(data) if whole else 0
        if wanted < entry.size <= limit:
            everything = self._read_range(entry, 0, limit + 1)  # in one request: two could read two different values
            if len(everything) <= limit:
                return everything, len(everything)
        return data[:wanted], max(entry.size, start + len(data))

    def _read_range(self, entry: Entry, start: int, size: int) -> bytes:
        if entry.key is not None:
            part = self._engine.read_range(entry.key, start, size)
        elif entry.size > DOWNLOAD_BYTES:
            raise PersistenceError(f"preview {entry.filename}: {_too_large(entry.size)}")
        else:
            value = self._load(entry)
            part = None if value is None else value[start : start + size]
        if part is None:
            raise PersistenceError(f"preview {entry.key or entry.filename!r}: it is not there any more; refresh")
        return part

    def _load(self, entry: Entry) -> bytes | None:
        if entry.key is not None:
            return self._engine.load(entry.key)
        load_filename = getattr(self._inner, "load_filename", None)
        if load_filename is None:
            raise PersistenceError(f"load {entry.filename}: {self._engine!r} reads no value without its key")
        value: bytes | None = load_filename(entry.filename)
        return value

    def _download(self, request: Message) -> Answer:
        entry = self._entry_at(request)
        if _too_large(entry.size):
            raise PersistenceError(f"download: {_too_large(entry.size)}")
        value = self._load(entry)
        if value is None or len(value) > DOWNLOAD_BYTES:
            raise PersistenceError("download: the value was changed meanwhile; refresh")
        return {"filename": visible(entry.filename)}, [value]

    def _writable(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{action}: this browser is read only; open it with read_only=False")

    def _mark(self, request: Message) -> Answer:
        self._writable("mark")
        marks = dict(self._marks) if request.get("rows") else {}
        for row in request.get("rows", []):
            entry = self._entry_at({**request, "row": row})
            if entry.key is not None and request["on"]:
                marks[entry.key] = entry
            elif entry.key is not None:
                marks.pop(entry.key, None)
        self._marks = marks
        self.marked = tuple(marks)
        return {"marked": len(marks)}, []

    def _delete(self, request: Message) -> Answer:
        self._writable("delete")
        if request["count"] != len(self._marks):
            raise PersistenceError("delete: the marks were changed meanwhile; nothing was deleted")
        failures = delete_unchanged(self._engine, list(self._marks.values()))
        deleted = len(self._marks) - len(failures)
        self.marked = tuple(key for key in self._marks if key in failures)
        self.refresh()
        kept = [[visible(key)[:_LABEL], visible(why)] for key, why in list(failures.items())[:100]]
        return {"deleted": deleted, "failed": len(failures), "failures": kept}, []

    def _poll(self, _request: Message) -> Answer:
        token = self._listing.snapshot.token
        changed = token is not None and self._engine.change_token() != token
        return {"changed": changed, "listing": self._listing.running}, []

    def _refresh(self, _request: Message) -> Answer:
        self.refresh()
        return self._state(), []


def engine_of(place: Any, taker: str) -> Engine:
    """Return the engine of ``place``: of itself, or the one a store or a backend holds."""
    engine = getattr(place, "engine", place) if not isinstance(place, Engine) else place
    if not isinstance(engine, Engine):
        raise TypeError(
            f"{taker}: it takes an engine or a store, not {type(place).__name__}; open one with persistkit.open"
        )
    return engine


def _guess(entry: Entry) -> str:
    """Return what to know of a key that was only guessed, or nothing."""
    if not entry.ambiguous or entry.key is None:
        return ""
    others = [repr(visible(key)) for key in alternatives(entry.key)[:_SHOWN_ALTERNATIVES]] or ["a longer one"]
    return f"This key is a guess: the filename fits {', '.join(others)} as well, and nothing tells which was stored."


def _too_large(size_bytes: int) -> str:
    """Return why a value of that size is not downloaded, or nothing."""
    if size_bytes <= DOWNLOAD_BYTES:
        return ""
    return f"{human_size(size_bytes)} is more than {human_size(DOWNLOAD_BYTES)}: load it in Python"
