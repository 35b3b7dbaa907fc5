"""Parsed JSON as the page shows it: parts of bounded size, each asked for by its path."""

from __future__ import annotations

import json
from typing import Any, Final

from persistkit.text import visible

__all__ = ["Tree", "fields_of", "parse_json", "parse_lines", "written"]

_ITEMS: Final = 100
_NODES: Final = 2000
_FIRST_DEPTH: Final = 3
_DEPTH: Final = 60
_CHARACTERS: Final = 128 * 1024
_STRING: Final = 2000
_SUMMARY: Final = 60
_NAME: Final = 200
_EMBEDDED: Final = 1024 * 1024
_FOUND: Final = 200

Path = list[int]


class _Number(str):
    """A number as it is written: no digit lost, however long."""

    __slots__ = ()


class _Pairs(list[tuple[str, object]]):
    """The members of an object, repeated names kept."""


# json.loads with options makes a decoder for every call, and JSON Lines are many.
_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
)


def parse_json(text: str) -> object:
    """Parse JSON for a tree: numbers as they are written, repeated names kept.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return _decoder.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("it is nested too deeply for a tree") from None


def parse_lines(text: str) -> list[object]:
    """Parse JSON Lines for a tree or a table; blank lines are left out.

    Raises:
        ValueError: a line is not JSON.
    """
    values = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if line.strip():
            try:
                values.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"line {number:,}: {error}") from None
    return values


class Tree:
    """A parsed value; what is sent of it is bounded, and every node of it can be asked for.

    A node is [kind, value, ...]. For an object or array: its true count, its first children, and a summary in one
    line; a child of an object is [name, node]. For text: what is shown, how many characters are not, and, where the
    text is JSON itself, the node of that. A path gives the place of a child on each level, names may repeat.
    """

    def __init__(self, value: object) -> None:
        self.value = value
        self._left, self._characters, self._depth = _NODES, _CHARACTERS, _FIRST_DEPTH

    def root(self) -> list[Any]:
        """Return the node of the whole value."""
        self._left, self._characters, self._depth = _NODES, _CHARACTERS, _FIRST_DEPTH
        return self._node(self.value, 0)

    def children(self, path: Path, start: int = 0, *, deep: bool = False) -> list[Any]:
        """Return the next children of a node, from ``start`` on; with ``deep`` what fits of theirs, on all levels."""
        self._left, self._characters, self._depth = _NODES, _CHARACTERS, _DEPTH if deep else _FIRST_DEPTH
        found = _opened(self.at(path))
        inside = found[start : start + _ITEMS] if isinstance(found, list) else []
        return self._written(found, inside, 1)

    def at(self, path: Path) -> object:
        """Return the value at a path.

        Raises:
            IndexError: there is no such node.
        """
        value = self.value
        for place in path:
            value = _opened(value)
            if not isinstance(value, list) or place < 0:
                raise IndexError(f"no node {place}")
            value = value[place][1] if isinstance(value, _Pairs) else value[place]
        return value

    def code(self, path: Path, line: str) -> str:
        """Return the Python expression that leads to a node, ``line`` being the one of the whole value."""
        value: object = self.value
        for place in path:
            inside = _opened(value)
            line = line if inside is value else f"json.loads({line})"
            value = inside[place] if isinstance(inside, list) else None
            line += f"[{value[0]!a}]" if isinstance(inside, _Pairs) and isinstance(value, tuple) else f"[{place}]"
            value = value[1] if isinstance(inside, _Pairs) and isinstance(value, tuple) else value
        return line

    def find(self, text: str) -> list[Path]:
        """Return the paths of the first nodes whose name or value contains ``text``, case ignored."""
        wanted = text.lower()
        found: list[Path] = []
        waiting: list[tuple[tuple[Any, ...], str, object]] = [((), "", self.value)]
        while waiting and len(found) < _FOUND:
            way, name, value = waiting.pop()
            inside = _opened(value)
            here = value if isinstance(value, str) else json.dumps(value) if not isinstance(value, list) else ""
            if wanted in name.lower() or (wanted in here.lower() and not isinstance(inside, list)):
                found.append(_path_of(way))
            if isinstance(inside, list):
                named = inside if isinstance(inside, _Pairs) else [("", child) for child in inside]
                waiting += [((way, place), *named[place]) for place in range(len(named) - 1, -1, -1)]
        return found

    def _node(self, value: object, depth: int) -> list[Any]:
        self._left -= 1
        if isinstance(value, list):
            kind = "object" if isinstance(value, _Pairs) else "array"
            room = max(0, min(_ITEMS, self._left)) if depth < self._depth and self._characters > 0 else 0
            inside = value[:room]
            summary = _summary(value)
            self._characters -= len(summary)
            return [kind, len(value), self._written(value, inside, depth + 1), summary]
        if isinstance(value, _Number):
            return ["number", *self._text(value)]
        if not isinstance(value, str):
            return ["literal", json.dumps(value), 0]
        shown = ["string", *self._text(value)]
        embedded = _opened(value)
        return [*shown, self._node(embedded, depth + 1)] if isinstance(embedded, list) else shown

    def _written(self, value: object, inside: list[Any], depth: int) -> list[Any]:
        if isinstance(value, _Pairs):
            return [[visible(name[:_NAME]), self._node(child, depth)] for name, child in inside]
        return [self._node(child, depth) for child in inside]

    def _text(self, text: str) -> tuple[str, int]:
        shown = text[: max(20, min(_STRING, self._characters))]
        self._characters -= len(shown)
        return visible(shown, lines=True), len(text) - len(shown)


def _path_of(way: tuple[Any, ...]) -> Path:
    path: Path = []
    while way:
        way, place = way
        path.append(place)
    return path[::-1]


def _opened(value: object) -> object:
    """Return the object or array that a text is, or the value itself."""
    if type(value) is str and value[:1] in ("{", "[") and len(value) <= _EMBEDDED:
        try:
            found = parse_json(value)
        except ValueError:
            return value
        return found if found else value
    return value


def fields_of(value: object) -> dict[str, object] | None:
    """Return the members of a parsed object, the last of a repeated name; None for anything else."""
    return dict(value) if isinstance(value, _Pairs) else None


def written(value: object, indent: int | None = 2, depth: int = 0) -> str:
    """Return a parsed value as JSON, its numbers as they were written."""
    if isinstance(value, _Number):
        return str(value)
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, _Pairs):
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {written(v, indent, depth + 1)}" for k, v in value]
    else:
        parts = [written(child, indent, depth + 1) for child in value]
    opening, closing = "{}" if isinstance(value, _Pairs) else "[]"
    if not parts or indent is None:
        return f"{opening}{', '.join(parts)}{closing}"
    pad = "\n" + " " * (indent * (depth + 1))
    return f"{opening}{pad}{f',{pad}'.join(parts)}{pad[:-indent]}{closing}"


def _summary(value: list[Any]) -> str:
    """Return the beginning of an object or array in one line."""
    parts: list[str] = []
    length = 0
    for child in value[:8]:
        name, inside = child if isinstance(value, _Pairs) else ("", child)
        if isinstance(inside, list):
            text = ("{…}" if isinstance(inside, _Pairs) else "[…]") if inside else "{}"
        else:
            text = inside if isinstance(inside, str) else json.dumps(inside)
            text = json.dumps(text[:30], ensure_ascii=False) if type(inside) is str else text[:30]
        parts.append(visible(f"{name[:30]}: {text}" if isinstance(value, _Pairs) else text))
        length += len(parts[-1]) + 2
        if length > _SUMMARY:
            break
    whole = len(parts) == len(value)
    return ", ".join(parts)[: 2 * _SUMMARY] + ("" if whole else ", …")
