"""Reading the values of a browser's entries: previews, parts of trees, downloads, code, comparisons."""

from __future__ import annotations

import re
from typing import Any, Final

from persistkit.browser.kinds import kind_of
from persistkit.browser.page_widget import Answer, Message
from persistkit.browser.preview import FIRST_BYTES, Value, make_preview
from persistkit.browser.trees import Tree, written
from persistkit.engine import Engine
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.entry import Entry
from persistkit.errors import PersistenceError
from persistkit.keys import alternatives
from persistkit.text import human_size, human_time, visible
from persistkit.views import value_or_bytes

__all__ = ["Reader"]

_DOWNLOAD_BYTES: Final = 32 * 1024 * 1024
_COPY_CHARACTERS: Final = 1024 * 1024
_COMPARE_BYTES: Final = 8 * 1024 * 1024
_KIND_BYTES: Final = 512
_ALTERNATIVES: Final = 8
_LOOKED_AT: Final = 20
_HASH: Final = re.compile(r"-[0-9a-f]{16}\.bin\Z")
_EXTENSION: Final = re.compile(r"\.[A-Za-z]\w{0,8}\Z")


class Reader:
    """Reads what a page asks to see of an engine's values."""

    def __init__(self, engine: Engine, load_line: str) -> None:
        self._engine = engine
        self._load_line = load_line
        self._tree: tuple[Entry, Tree] | None = None  # of the value that was shown last

    def load(self, entry: Entry) -> bytes | None:
        """Return the whole value; None when it is gone."""
        if entry.key is not None:
            return self._engine.load(entry.key)
        inner = self._engine.engine if isinstance(self._engine, ReadOnlyEngine) else self._engine
        load_filename = getattr(inner, "load_filename", None)
        if load_filename is None:
            raise PersistenceError(f"load {entry.filename}: {inner!r} reads no value without its key")
        value: bytes | None = load_filename(entry.filename)
        return value

    def preview(self, entry: Entry, request: Message) -> Answer:
        """Return what to show of a value, and the bytes of an image or a dump."""
        value = self._value(entry)
        shown = make_preview(
            value,
            request.get("show"),
            start=max(0, int(request.get("start", 0))),
            size=int(request.get("bytes", FIRST_BYTES)),
            row=int(request.get("first", 0)),
            places=[int(place) for place in request.get("places", [])],
        )
        self._tree = None if shown.tree is None else (entry, shown.tree)
        body = {"view": shown.view, "views": shown.views, "note": shown.note, **shown.body}
        details = {
            "row": request["row"],
            "revision": request["revision"],
            **self._details(entry, value.size, shown.kind.label),
        }
        return {"details": details, "preview": body}, [shown.data]

    def node(self, entry: Entry, request: Message) -> Answer:
        """Return the children of one node of the tree that is shown."""
        path, start = [int(place) for place in request["path"]], max(0, int(request.get("start", 0)))
        return {"children": self._shown_tree(entry).children(path, start, deep=bool(request.get("deep")))}, []

    def find(self, entry: Entry, request: Message) -> Answer:
        """Return the paths of the nodes that contain a text."""
        return {"paths": self._shown_tree(entry).find(str(request["text"]))}, []

    def copy(self, entry: Entry, request: Message) -> Answer:
        """Return the value of a node as JSON, or the code that leads to it."""
        tree, path = self._shown_tree(entry), [int(place) for place in request["path"]]
        if request.get("code"):
            return {"text": tree.code(path, self._line_of(entry))}, []
        value = tree.at(path)
        text = str(value) if type(value) is str else written(value)
        if len(text) > _COPY_CHARACTERS:
            raise PersistenceError(f"copy: {human_size(len(text))} is more than the clipboard should take; use code")
        return {"text": text}, []

    def download(self, entry: Entry, _request: Message) -> Answer:
        """Return a filename and the whole value."""
        if why := _too_large(entry.size):
            raise PersistenceError(f"download: {why}")
        value = self.load(entry)
        if value is None or len(value) > _DOWNLOAD_BYTES:
            raise PersistenceError("download: the value was changed meanwhile; refresh")
        name = _HASH.sub("", entry.filename) or "value"
        if not _EXTENSION.search(name):
            name += kind_of(value[:FIRST_BYTES], entry.key).extension
        return {"filename": visible(name)}, [value]

    def kind(self, entry: Entry) -> tuple[str, str]:
        """Return what a value is, in short and in words, from its first bytes; nothing where it cannot be read."""
        data = None if entry.key is None else self._start_of(entry.key)
        kind = None if data is None else kind_of(data, entry.key)
        return ("", "") if kind is None else (kind.name, kind.label)

    def code(self, keys: list[str]) -> str:
        """Return the Python line that loads these keys: as a table where a few looked at are JSON objects."""
        if len(keys) == 1:
            return self._load_line.replace("{key}", ascii(keys[0]))
        if not self._load_line.startswith("store"):
            line = "engine.batch_load([{}])"
        elif keys and all(map(self._is_object, keys[:: -(-len(keys) // _LOOKED_AT)])):
            line = "store.values_frame(keys=[{}])"
        else:
            line = "store.load_many([{}])"
        return line.format(", ".join(map(ascii, keys)))

    def _is_object(self, key: str) -> bool:
        data = self._start_of(key) or b""
        return kind_of(data, key).name == "json" and data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")

    def _start_of(self, key: str) -> bytes | None:
        try:
            return self._engine.read_range(key, 0, _KIND_BYTES)
        except (PersistenceError, OSError):
            return None

    def compare(self, left: Entry, right: Entry) -> Message:
        """Return where two values differ, as ``store.diff`` does: rows of the path and the parts of both sides."""
        # Here, because few compare, and pandas takes a while to import.
        from persistkit.diff import diff_values, shown_rows

        rows, notes = shown_rows(diff_values(self._comparable(left), self._comparable(right)))
        names = ["where", visible(left.key or ""), visible(right.key or "")]
        drawn = [[f"{row.path}\n{row.change}".strip(), row.left, row.right] for row in rows]
        return {"names": names, "rows": drawn, "notes": notes if rows else ["No differences."]}

    def _comparable(self, entry: Entry) -> Any:
        data = self._value(entry).whole(_COMPARE_BYTES)
        if data is None:
            most = human_size(_COMPARE_BYTES)
            raise PersistenceError(f"compare {entry.key!r}: more than {most}; write store.diff(left, right)")
        return value_or_bytes(entry.key or "", data)

    def _value(self, entry: Entry) -> Value:
        return Value(lambda start, size: self._read_range(entry, start, size), entry.size, entry.key)

    def _read_range(self, entry: Entry, start: int, size: int) -> bytes:
        if entry.key is not None:
            part = self._engine.read_range(entry.key, start, size)
        elif entry.size > _DOWNLOAD_BYTES:
            raise PersistenceError(f"preview {entry.filename}: {_too_large(entry.size)}")
        else:
            value = self.load(entry)
            part = None if value is None else value[start : start + size]
        if part is None:
            raise PersistenceError(f"preview {entry.key or entry.filename!r}: it is not there any more; refresh")
        return part

    def _shown_tree(self, entry: Entry) -> Tree:
        if self._tree is None or self._tree[0] != entry:
            tree = make_preview(self._value(entry), "json").tree
            if tree is None:
                raise PersistenceError("the value was changed meanwhile; refresh")
            self._tree = entry, tree
        return self._tree[1]

    def _line_of(self, entry: Entry) -> str:
        return "" if entry.key is None else self.code([entry.key])

    def _details(self, entry: Entry, size: int, label: str) -> Message:
        name = visible(entry.filename)
        more = [["Size", f"{size:,} bytes"], ["Hash", entry.filename[-20:-4]], ["File", name]]
        if entry.modified is not None:
            more.insert(1, ["Modified", f"{entry.modified:%Y-%m-%d %H:%M:%S.%f} UTC"])
        shown = [label, human_size(size), human_time(entry.modified) and f"{human_time(entry.modified)} UTC"]
        return {
            "key": entry.key,
            "label": visible(entry.filename if entry.key is None else entry.key),
            "summary": " · ".join(filter(None, shown)),
            "facts": more,
            "guessed": _guess(entry),
            "line": self._line_of(entry),
            "download": _too_large(size),
        }


def _too_large(size_bytes: int) -> str:
    """Return why a value of that size is not downloaded, or nothing."""
    if size_bytes <= _DOWNLOAD_BYTES:
        return ""
    return f"{human_size(size_bytes)} is more than {human_size(_DOWNLOAD_BYTES)}: load it in Python"


def _guess(entry: Entry) -> str:
    """Return what to know of a key that was only guessed, or nothing."""
    if not entry.ambiguous or entry.key is None:
        return ""
    others = [repr(visible(key)) for key in alternatives(entry.key)[:_ALTERNATIVES]] or ["a longer one"]
    return f"This key is a guess: the filename fits {', '.join(others)} as well, and nothing tells which was stored."
