"""Alignment: equal values have equal numbers, and the items of two lists that belong together are found."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from persistkit.errors import FormatError
from persistkit.formats import encode

__all__ = ["Alignment", "members_of"]

Pair: TypeAlias = tuple[int | None, int | None]
Gap: TypeAlias = tuple[int, int, int, int]
Chain: TypeAlias = "tuple[tuple[int, int], Chain] | None"  # pairs of places, linked

# Comparisons of two items: about a second for a whole alignment. Likeness costs more than equality.
_WORK: Final = 4_000_000
_LIKENESS_WORK: Final = 100
_LIKENESS_PAIRS: Final = 2_500
_ALIKE: Final = 0.5
_FEATURES: Final = 500
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_SINGLE: Final = frozenset([str, bool, int, float, bytes, type(None)])
_SMALL: Final = 1 << 60


def members_of(value: Any) -> dict[Any, Any] | None:
    """Return what a dict, a dataclass or a pydantic model holds, by key or name; None for anything else."""
    if isinstance(value, dict):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return dict(vars(value)) if hasattr(type(value), "__pydantic_fields__") else None


def _inside(value: Any) -> tuple[list[Any], Callable[[list[int]], Any]] | None:
    """Return what a container holds, and what makes the content of their numbers; None for anything else."""
    if isinstance(value, (list, tuple)):
        return list(value), tuple
    if isinstance(value, (set, frozenset)):
        return list(value), frozenset
    members = members_of(value)
    return None if members is None else ([*members, *members.values()], _by_key)


def _by_key(numbers: list[int]) -> frozenset[tuple[int, int]]:
    half = len(numbers) // 2
    return frozenset(zip(numbers[:half], numbers[half:], strict=True))


class Alignment:
    """Pairs the items of lists; of one comparison, whose values stay alive and unchanged meanwhile.

    Attributes:
        by_position: whether items were paired by their positions alone, because there were too many to try.
    """

    def __init__(self) -> None:
        self.by_position = False
        self._work = _WORK
        self._numbers: dict[Any, int] = {}
        self._of_containers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """Return a number that no two unequal values share; equal ones do, but for few kinds, such as arrays.

        Equal means of the same type too, and NaN is equal to NaN.

        Raises:
            ValueError: the value contains itself.
        """
        if type(value) in _SINGLE:
            return self._simple(value)
        found, simple = self._of_containers, self._simple
        waiting: list[tuple[Any, Any]] = [(value, None)]  # a container, and what it holds once that is known
        opened: set[int] = set()
        while waiting:
            node, inside = waiting.pop()
            if inside is not None:
                children, combine = inside
                numbers = [
                    simple(one) if type(one) in _SINGLE or id(one) not in found else found[id(one)] for one in children
                ]
                found[id(node)] = self._numbers.setdefault((type(node), combine(numbers)), len(self._numbers))
            elif id(node) not in found and (inside := _inside(node)) is not None:
                if id(node) in opened:
                    raise ValueError(f"diff: a {type(node).__name__} that contains itself cannot be compared")
                opened.add(id(node))
                waiting.append((node, inside))
                waiting += [(child, None) for child in inside[0] if type(child) not in _SINGLE]
        return found[id(value)] if id(value) in found else simple(value)

    def differing(self, left: Sequence[Any], right: Sequence[Any]) -> Iterator[Pair]:
        """Yield the places of items that belong together and are not equal, in order; None for an item that is alone.

        What one list has in addition is alone, and shifts nothing that follows.
        """
        ours, theirs = [self.number(item) for item in left], [self.number(item) for item in right]
        for gap in _between_unique(ours, theirs):
            for part in self._between_equal(ours, theirs, gap):
                for i, j in self._pairs(left, right, part):
                    if i is None or j is None or ours[i] != theirs[j]:
                        yield i, j

    def _simple(self, value: Any) -> int:
        """Return the number of a value that holds no others."""
        kind, numbers = type(value), self._numbers
        content = value
        if kind is int:  # beyond, other programs' numbers may all have one hash
            content = value if -_SMALL < value < _SMALL else hex(value)
        elif kind is float:
            content = value if value == value else "nan"
        elif kind not in _SINGLE:
            try:
                content = blake2b(encode(value)).digest()
            except FormatError:
                content = id(value)
        return numbers.setdefault((kind, content), len(numbers))

    def _between_equal(self, ours: list[int], theirs: list[int], gap: Gap) -> Iterator[Gap]:
        start, end, other_start, other_end = gap
        work = (end - start) * (other_end - other_start)
        if work > self._work:
            self.by_position = True
            yield gap
            return
        self._work -= work
        matcher = SequenceMatcher(None, ours[start:end], theirs[other_start:other_end], autojunk=False)
        for tag, i, j, k, m in matcher.get_opcodes():
            if tag != "equal":
                yield start + i, start + j, other_start + k, other_start + m

    def _pairs(self, left: Sequence[Any], right: Sequence[Any], gap: Gap) -> Iterator[Pair]:
        """Pair what is alike, then what lies between by position."""
        place, end, other, other_end = gap
        for i, j in [*self._alike(left, right, gap), (end, other_end)]:
            both = min(i - place, j - other)
            yield from ((place + step, other + step) for step in range(both))
            yield from ((alone, None) for alone in range(place + both, i))
            yield from ((None, alone) for alone in range(other + both, j))
            if i < end:
                yield i, j
            place, other = i + 1, j + 1

    def _alike(self, left: Sequence[Any], right: Sequence[Any], gap: Gap) -> list[tuple[int, int]]:
        """Return the pairs, in order, whose likeness comes to the most; all of them more than half alike."""
        start, end, other_start, other_end = gap
        pairs = (end - start) * (other_end - other_start)
        if not 1 < pairs <= _LIKENESS_PAIRS or pairs * _LIKENESS_WORK > self._work:
            return []
        self._work -= pairs * _LIKENESS_WORK
        theirs = [self._features(item) for item in right[other_start:other_end]]
        # The best of what follows a place in both lists: its likeness, and the chain of its pairs.
        best: list[tuple[float, Chain]] = [(0.0, None)] * (len(theirs) + 1)
        for i in reversed(range(start, end)):
            one, below = self._features(left[i]), best
            best = [(0.0, None)] * (len(theirs) + 1)
            for j in reversed(range(len(theirs))):
                ways, likeness = [below[j], best[j + 1]], _likeness(one, theirs[j])
                if likeness > _ALIKE:
                    rest, chain = below[j + 1]
                    ways.append((likeness + rest, ((i, other_start + j), chain)))
                best[j] = max(ways, key=itemgetter(0))
        return list(_links(best[0][1]))

    def _features(self, value: Any) -> tuple[type, frozenset[Any]]:
        parts: Any = ()
        members = members_of(value)
        if isinstance(value, str):
            parts = (word[0] for word in _WORD.finditer(value))
        elif members is not None:
            parts = ((self.number(key), self.number(item)) for key, item in members.items())
        elif isinstance(value, (list, tuple)):
            parts = map(self.number, value)
        return type(value), frozenset(islice(parts, _FEATURES))


def _likeness(one: tuple[type, frozenset[Any]], other: tuple[type, frozenset[Any]]) -> float:
    size = len(one[1]) + len(other[1])
    return 2 * len(one[1] & other[1]) / size if size and one[0] is other[0] else 0.0


def _between_unique(ours: list[int], theirs: list[int]) -> Iterator[Gap]:
    """Yield what lies between the items that each list has once, in the same order: where patience diff looks next."""
    start, end, other_end = 0, len(ours), len(theirs)
    while start < min(end, other_end) and ours[start] == theirs[start]:
        start += 1
    while start < min(end, other_end) and ours[end - 1] == theirs[other_end - 1]:
        end, other_end = end - 1, other_end - 1
    once = {number for number, count in Counter(ours[start:end]).items() if count == 1}
    once &= {number for number, count in Counter(theirs[start:other_end]).items() if count == 1}
    places = {theirs[place]: place for place in range(start, other_end) if theirs[place] in once}
    common = [(place, places[ours[place]]) for place in range(start, end) if ours[place] in once]
    place = other = start
    for i, j in [*_longest_rising(common), (end, other_end)]:
        if i > place or j > other:
            yield place, i, other, j
        place, other = i + 1, j + 1


def _longest_rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest part of ``pairs`` whose second numbers rise."""
    lowest: list[int] = []  # the lowest number with which a chain of each length ends
    chains: list[Chain] = []
    for pair in pairs:
        length = bisect_left(lowest, pair[1])
        lowest[length : length + 1] = [pair[1]]
        chains[length : length + 1] = [(pair, chains[length - 1] if length else None)]
    return [*_links(chains[-1] if chains else None)][::-1]


def _links(chain: Chain) -> Iterator[tuple[int, int]]:
    while chain is not None:
        pair, chain = chain
        yield pair
