"""Differences: a row for each place at which two values differ; trees, lists, texts, bytes, arrays and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from persistkit.alignment import Alignment, members_of
from persistkit.text import path_step

__all__ = ["Comparison", "Row"]

_MOST_CELLS: Final = 100
_ABSENT: Final[Any] = object()
_EXACT_KINDS: Final = "biufcUS"


class Row(NamedTuple):
    """One difference."""

    path: str
    left: Any
    right: Any
    change: str = "changed"


class _Pair(NamedTuple):
    """Two values of one place, still to be compared."""

    path: str
    left: Any
    right: Any


_Found: TypeAlias = "Iterator[Row | _Pair]"


class Comparison:
    """One comparison under way."""

    def __init__(self) -> None:
        self.alignment = Alignment()
        self.notes: list[str] = []

    def rows(self, left: Any, right: Any) -> Iterator[Row]:
        """Yield every difference, in the order of the left value.

        Raises:
            ValueError: a value contains itself.
        """
        # A stack of our own: values may be nested more deeply than Python's.
        waiting: list[_Found] = [iter([_Pair("$", left, right)])]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
            elif isinstance(found, Row):
                yield found
            else:
                waiting.append(self._compared(*found))

    def _compared(self, path: str, left: Any, right: Any) -> _Found:
        if left is right:
            return
        if left is _ABSENT:
            yield Row(path, pd.NA, right, "added")
        elif right is _ABSENT:
            yield Row(path, left, pd.NA, "removed")
        elif type(left) is not type(right):
            yield Row(path, left, right, f"type {type(left).__name__}, {type(right).__name__}")
        elif (compare := self._way(left)) is not None:
            yield from compare(path, left, right)
        elif not _equal(left, right):
            yield Row(path, left, right)

    def _way(self, value: Any) -> Callable[[str, Any, Any], _Found] | None:
        ways: list[tuple[Any, Callable[[str, Any, Any], _Found]]] = [
            (str, self._texts),
            ((list, tuple), self._lists),
            ((set, frozenset), self._sets),
            ((bytes, bytearray), _bytes),
            (np.ndarray, self._arrays),
            (pd.DataFrame, self._tables),
            (pd.Series, self._series),
        ]
        for kinds, way in ways:
            if isinstance(value, kinds):
                return way
        return None if members_of(value) is None else self._members

    def _members(self, path: str, left: Any, right: Any) -> _Found:
        if self.alignment.number(left) != self.alignment.number(right):
            yield from self._by_key(path, members_of(left) or {}, members_of(right) or {}, path_step)

    def _sets(self, path: str, left: Any, right: Any) -> _Found:
        ours, theirs = ({item: item for item in one} for one in (left, right))
        yield from self._by_key(path, ours, theirs, lambda item: f" item {item!r}")

    def _by_key(
        self, path: str, left: dict[Any, Any], right: dict[Any, Any], step: Callable[[object], str]
    ) -> Iterator[_Pair]:
        number = self.alignment.number
        ours, theirs = ({number(key): (key, item) for key, item in one.items()} for one in (left, right))
        for key, (name, _) in (ours | theirs).items():
            yield _Pair(f"{path}{step(name)}", ours.get(key, _NOTHING)[1], theirs.get(key, _NOTHING)[1])

    def _lists(self, path: str, left: Any, right: Any) -> _Found:
        if self.alignment.number(left) != self.alignment.number(right):
            yield from self._aligned(left, right, lambda place: f"{path}[{place}]")

    def _texts(self, path: str, left: str, right: str) -> _Found:
        if "\n" in left or "\n" in right:
            yield from self._aligned(left.split("\n"), right.split("\n"), lambda place: f"{path} line {place + 1}")
        elif left != right:
            yield Row(path, left, right)

    def _aligned(self, left: Sequence[Any], right: Sequence[Any], path: Callable[[int], str]) -> Iterator[_Pair]:
        for i, j in self.alignment.differing(left, right):
            ours, theirs = _ABSENT if i is None else left[i], _ABSENT if j is None else right[j]
            yield _Pair(path((j or 0) if i is None else i), ours, theirs)

    def _arrays(self, path: str, left: Any, right: Any) -> _Found:
        if left.dtype != right.dtype:
            yield Row(f"{path} dtype", str(left.dtype), str(right.dtype))
        if left.shape != right.shape:
            yield Row(f"{path} shape", left.shape, right.shape)
            return
        ours, theirs, shape = left.ravel(), right.ravel(), left.shape

        def step(place: int) -> str:
            return f"[{', '.join(str(int(axis)) for axis in np.unravel_index(place, shape))}]" if shape else ""

        places = np.flatnonzero(self._unequal(ours, theirs))
        yield from self._cells(path, "elements", ours, theirs, places, step)

    def _tables(self, path: str, left: pd.DataFrame, right: pd.DataFrame) -> _Found:
        columns = yield from self._common(path, 1, left, right)
        rows = yield from self._common(path, 0, left, right)
        for ours, theirs in zip(*columns, strict=True):
            name = path_step(left.columns[ours])
            yield from self._column(f"{path}{name}", left.iloc[:, ours], right.iloc[:, theirs], *rows)

    def _series(self, path: str, left: pd.Series[Any], right: pd.Series[Any]) -> _Found:
        yield _Pair(f"{path} name", left.name, right.name)
        rows = yield from self._common(path, 0, left, right)
        yield from self._column(path, left, right, *rows)

    def _common(self, path: str, axis: int, left: Any, right: Any) -> Any:
        """Yield the rows (of axis 1, the columns) that only one table has; return the positions of the common ones."""
        what, index, other = ("rows", "columns")[axis], left.axes[axis], right.axes[axis]
        if not axis and (kinds := _index_kind(index)) != (other_kinds := _index_kind(other)):
            yield Row(f"{path} index", kinds, other_kinds)
        places = np.arange(len(index))
        if index.equals(other):
            return places, places
        try:
            places, others = other.get_indexer(index), index.get_indexer(other)
        except (pd.errors.InvalidIndexError, TypeError, ValueError):
            label = "name" if axis else "label"
            self.notes.append(f"{path}: {what} were compared by position: not each has a {label} of its own.")
            both = min(len(index), len(other))
            places = np.where(places < both, places, -1)
            others = np.where(np.arange(len(other)) < both, 0, -1)
        for place in np.flatnonzero(places < 0).tolist():
            yield _Pair(f"{path}{_step(axis, index, place)}", _part(axis, left, place), _ABSENT)
        for place in np.flatnonzero(others < 0).tolist():
            yield _Pair(f"{path}{_step(axis, other, place)}", _ABSENT, _part(axis, right, place))
        common, other_common = np.flatnonzero(places >= 0), places[places >= 0]
        if (np.diff(other_common) < 0).any():
            yield Row(f"{path} {what}", list(index[common]), list(other[np.sort(other_common)]), "order")
        return common, other_common

    def _column(self, path: str, left: pd.Series[Any], right: pd.Series[Any], rows: Any, other_rows: Any) -> _Found:
        index, same_type = left.index, left.dtype == right.dtype
        if not same_type:
            show = str if str(left.dtype) != str(right.dtype) else repr
            yield Row(f"{path} dtype", show(left.dtype), show(right.dtype))
        ours, theirs = (
            side.to_numpy() if side.dtype == object else side.array
            for side in (left.iloc[rows], right.iloc[other_rows])
        )
        places = np.flatnonzero(self._unequal_cells(ours, theirs, same_type=same_type))

        def step(place: int) -> str:
            return _step(0, index, rows[place])

        yield from self._cells(path, "cells", ours, theirs, places, step)

    def _cells(self, path: str, what: str, left: Any, right: Any, places: Any, step: Callable[[int], str]) -> _Found:
        """Yield the first of the cells that differ, and note how many do, and by how much."""
        if len(places):
            cut = f"; the first {_MOST_CELLS} are rows" if len(places) > _MOST_CELLS else ""
            largest = _largest(left[places], right[places], lambda at: step(places[at]))
            self.notes.append(f"{path}: {len(places):,} of {len(left):,} {what} differ{largest}{cut}.")
        kind = _Pair if left.dtype == right.dtype == object else Row  # an object may hold others
        for place in places[:_MOST_CELLS]:
            yield kind(f"{path}{step(place)}", _cell(left[place]), _cell(right[place]))

    def _unequal(self, left: Any, right: Any) -> Any:
        """Return where two flat arrays differ; NaN is equal to NaN."""
        kinds = {left.dtype.kind, right.dtype.kind}
        if left.dtype.names and left.dtype == right.dtype:
            fields = [self._unequal(left[name], right[name]) for name in left.dtype.names]
            return np.any([field.reshape(len(left), -1).any(axis=1) for field in fields], axis=0)
        if kinds == {"c"}:
            return self._unequal(left.real, right.real) | self._unequal(left.imag, right.imag)
        if "O" in kinds:
            number = self.alignment.number
            return np.array(
                [one is not o and number(one) != number(o) for one, o in zip(left, right, strict=True)], bool
            )
        unequal = np.asarray(left != right)
        return unequal & ~((left != left) & (right != right)) if kinds <= set("fMm") else unequal

    def _unequal_cells(self, left: Any, right: Any, *, same_type: bool) -> Any:
        if same_type and left.dtype == object:
            return self._unequal(left, right)
        one, other = (pd.Series(cells if same_type else cells.astype(object)) for cells in (left, right))
        equal = (one == other).fillna(False).to_numpy(bool)
        return ~(equal | (one.isna() & other.isna()).to_numpy())


_NOTHING: Final = ("", _ABSENT)


def _bytes(path: str, left: bytes, right: bytes) -> _Found:
    """Yield one row: the bytes between those that both have at the start and at the end."""
    both = min(len(left), len(right))
    ours, theirs = np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)
    start = _equal_start(ours[:both], theirs[:both])
    end = _equal_start(ours[start:][::-1][: both - start], theirs[start:][::-1][: both - start])
    one, other = left[start : len(left) - end], right[start : len(right) - end]
    kind = Row if one and other else _Pair
    if one or other:
        yield kind(f"{path}[{start}:{len(left) - end}]", one or _ABSENT, other or _ABSENT)


def _equal_start(left: Any, right: Any) -> int:
    places = np.flatnonzero(left != right)
    return int(places[0]) if len(places) else len(left)


def _largest(left: Any, right: Any, step: Callable[[int], str]) -> str:
    """Return how far numbers differ at most, and where, as a part of a sentence; nothing for what are no numbers."""
    one, other = np.asarray(left), np.asarray(right)
    if not {one.dtype.kind, other.dtype.kind} <= set("iuf"):
        return ""
    with np.errstate(all="ignore"):
        distance = np.nan_to_num(np.abs(one.astype(float) - other.astype(float)), nan=-1.0, posinf=np.inf)
    at = int(np.argmax(distance))
    where = f" at {step(at)}" if step(at) else ""
    return f", the largest difference is {distance[at]:.6g}{where}" if distance[at] > 0 else ""


def _index_kind(index: Any) -> str:
    dtypes = [index.dtype] if index.nlevels == 1 else list(index.dtypes)
    return ", ".join(
        f"{name}: {dtype}" if name is not None else str(dtype) for name, dtype in zip(index.names, dtypes, strict=True)
    )


def _step(axis: int, index: Any, place: int) -> str:
    label = _cell(index[place])
    return path_step(label) if axis else f"[{label!r}]"


def _part(axis: int, table: Any, place: int) -> Any:
    """Return the values of a row or of a column."""
    if axis:
        return table.iloc[:, place].tolist()
    if isinstance(table, pd.Series):
        return _cell(table.iat[place])
    return {name: _cell(table.iat[place, column]) for column, name in enumerate(table.columns)}


def _cell(value: Any) -> Any:
    if type(value) is tuple:  # a label of several levels
        return tuple(map(_cell, value))
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in _EXACT_KINDS else value


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two values of one type, which hold no others, are equal; two that are missing are."""
    try:
        if one == other:
            units = [(getattr(value, "unit", None), getattr(value, "dtype", None)) for value in (one, other)]
            return units[0] == units[1] and (not hasattr(one, "tzinfo") or repr(one) == repr(other))
        return bool(one != one and other != other) and repr(one) == repr(other)
    except (TypeError, ValueError):  # pd.NA, and what answers for each cell
        return False
