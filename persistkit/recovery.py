"""Recovery: the true keys of many hashed filenames at once.

A filename leaves open what each ``_`` was. With ``p`` the sanitized text and ``h`` the hash, ``h - djb2(p)`` is the sum
over the unknown places of (character - ``_``) * 33 ** (bytes after it), modulo 2 ** 64. Names with the same places and
the same sum are one group; each group is solved once, by meeting in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from persistkit.filenames import (
    ANY_CHARACTERS,
    MAX_ALTERNATIVES,
    MAX_UNCUT_BYTES,
    ONE_SPECIAL,
    SPECIALS,
    STARTS,
    SUFFIX_BYTES,
    TWO_SPECIALS,
    Reading,
    same_filename,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]

__all__ = ["recover"]

_CHUNK: Final = 1 << 15
_UNDERSCORE: Final = ord("_")
_MASK: Final = (1 << 64) - 1
_PLACE_BYTES: Final = 32
_WEIGHTS: Final = np.array([pow(33, place, 1 << 64) for place in range(8 * _PLACE_BYTES)], np.uint64)
_STARTS: Final = np.array(STARTS[: MAX_UNCUT_BYTES + 1], np.uint64)
_HEX_VALUES: Final = np.full(256, 255, np.uint8)
_HEX_VALUES[list(b"0123456789abcdef")] = range(16)
_IS_SPECIAL: Final = np.zeros(256, bool)
_IS_SPECIAL[list(SPECIALS)] = True

_WITH_ONE: Final = [bytes([_UNDERSCORE, special]) for special in SPECIALS]
_WITH_TWO: Final = [bytes([_UNDERSCORE, *pair]) for pair in combinations(SPECIALS, 2)]
# The underscore comes first: it leaves the sum as it is.
_ANY: Final = bytes([_UNDERSCORE, *SPECIALS])
_ALWAYS: Final = {2: ONE_SPECIAL, 3: TWO_SPECIALS, len(_ANY): ANY_CHARACTERS}
_LARGEST_PATTERN: Final = 256
_WORTH_SIEVING: Final = 2_000
# Odd, from the golden ratio: keeps the sums of different alphabets apart in one sorted list.
_TAG: Final = 0x9E3779B97F4A7C15
# Beyond what is always solved: at most so many sums a side, and so many in one listing, about a second of work.
_LARGEST_SIDE: Final = 200_000
_BUDGET: Final = 40_000_000


def recover(filenames: Sequence[str], *, thorough: bool) -> list[Reading]:
    """Return the reading of each filename; see ``persistkit.filenames.keys_for``."""
    groups: dict[bytes, int] = {}
    chunks = [filenames[start : start + _CHUNK] for start in range(0, len(filenames), _CHUNK)]
    memberships = [_grouped(chunk, groups) for chunk in chunks]
    solved = _Solver(_BUDGET if thorough else 0).solve(sorted(groups))
    solutions = [solved.get(group) for group in groups]
    readings: list[Reading] = []
    for chunk, members in zip(chunks, memberships, strict=True):
        readings += _read(chunk, members, solutions)
    return readings


class _Solution:
    """The characters at the unknown places of a group, the last place first; several when keys collide."""

    __slots__ = ("places", "variants")

    def __init__(self, places: NDArray[np.intp], characters: bytes) -> None:
        self.places = places
        self.variants = [characters]
        if (places[1:] - places[:-1] == 1).any():
            self.variants = self._all_variants(characters)

    def _all_variants(self, characters: bytes) -> list[bytes]:
        text = bytearray(b"a" * (int(self.places[-1]) + 1))
        for place, character in zip(self.places, characters, strict=True):
            text[-1 - place] = character
        same = same_filename(bytes(text))
        return [bytes(other[-1 - place] for place in self.places) for other in same]


def _matrix(filenames: Sequence[str]) -> tuple[Bytes, NDArray[np.intp]]:
    """Return the names' bytes, aligned to the right, and their lengths; 0 for a name too long to be read."""
    # A surrogate becomes "?", which no name of ours holds.
    encoded = [name.encode("utf-8", "replace") for name in filenames]
    encoded = [name if len(name) <= MAX_UNCUT_BYTES else b"" for name in encoded]
    lengths = np.fromiter(map(len, encoded), np.intp, len(encoded))
    width = max(int(lengths.max()), SUFFIX_BYTES)
    joined = b"".join([name.rjust(width, b"\0") for name in encoded])
    return np.frombuffer(joined, np.uint8).reshape(-1, width), lengths


def _grouped(filenames: Sequence[str], groups: dict[bytes, int]) -> NDArray[np.intp]:
    """Return the group of each name, -1 where the text is the key, -2 where the name is not of our shape."""
    matrix, lengths = _matrix(filenames)
    text, suffix = matrix[:, :-SUFFIX_BYTES], matrix[:, -SUFFIX_BYTES:]
    digits = _HEX_VALUES[suffix[:, 1:17]]
    ours = (lengths >= SUFFIX_BYTES) & (suffix[:, 0] == ord("-")) & (digits != 255).all(axis=1)
    ours &= (suffix[:, 17:] == list(b".bin")).all(axis=1) & ~_IS_SPECIAL[text].any(axis=1)
    ours &= np.count_nonzero(matrix, axis=1) == lengths
    hashes = np.zeros(len(matrix), np.uint64)
    for digit in digits.T.astype(np.uint64):
        hashes = hashes * np.uint64(16) + digit
    sums = np.zeros(len(matrix), np.uint64)
    for column in np.ascontiguousarray(text.T):
        sums = sums * np.uint64(33) + column
    differences = hashes - sums - _STARTS[np.maximum(lengths - SUFFIX_BYTES, 0)]
    members = np.where(ours, -1, -2).astype(np.intp)
    open_rows = np.flatnonzero(ours & (differences != 0))
    places = np.packbits(text[open_rows, ::-1] == _UNDERSCORE, axis=1)
    rows = np.zeros((len(open_rows), _PLACE_BYTES + 8), np.uint8)
    rows[:, : places.shape[1]] = places
    rows[:, _PLACE_BYTES:] = differences[open_rows].astype(">u8").view(np.uint8).reshape(-1, 8)
    names = rows.view(f"V{rows.shape[1]}").ravel().tolist()
    members[open_rows] = [groups.setdefault(name, len(groups)) for name in names]
    return members


def _read(filenames: Sequence[str], members: NDArray[np.intp], solutions: list[_Solution | None]) -> list[Reading]:
    """Put the solved characters into the names of a chunk and return its readings."""
    matrix, lengths = _matrix(filenames)
    text = matrix[:, :-SUFFIX_BYTES].copy()
    width = text.shape[1]
    unread = members == -2
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.diff(members[order], prepend=-3))
    several: dict[int, _Solution] = {}
    for rows in np.split(order, starts[1:]):
        group = int(members[rows[0]])
        if group < 0:
            continue
        solution = solutions[group]
        if solution is None:
            unread[rows] = True
        elif len(solution.variants) == 1:
            columns = width - 1 - solution.places
            text[rows[:, np.newaxis], columns] = np.frombuffer(solution.variants[0], np.uint8)
        else:
            several.update(dict.fromkeys(rows.tolist(), solution))
    blob = text.tobytes()
    ends = range(width, width * len(filenames) + 1, width) if width else [0] * len(filenames)
    sizes = (lengths - SUFFIX_BYTES).tolist()
    return [
        Reading(name, (), complete=False)
        if unknown
        else Reading(name, (blob[end - size : end].decode(),), complete=True)
        if row not in several
        else _several(name, blob[end - size : end], several[row])
        for row, (name, unknown, end, size) in enumerate(zip(filenames, unread.tolist(), ends, sizes, strict=True))
    ]


def _several(filename: str, text: bytes, solution: _Solution) -> Reading:
    keys = []
    for variant in solution.variants[:MAX_ALTERNATIVES]:
        key = bytearray(text)
        for place, character in zip(solution.places, variant, strict=True):
            key[-1 - place] = character
        keys.append(key.decode())
    return Reading(filename, tuple(keys), complete=len(solution.variants) <= MAX_ALTERNATIVES)


class _Solver:
    """Finds the characters of the groups; an alphabet that fits one is tried on all others of the same length."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._solutions: dict[bytes, _Solution] = {}

    def solve(self, groups: list[bytes]) -> dict[bytes, _Solution]:
        """Return the solutions of the groups (places and sum) that have one.

        The order of the groups decides where the budget for hard ones goes: give them sorted.
        """
        by_length: dict[int, list[tuple[bytes, NDArray[np.intp]]]] = {}
        for group in groups:
            places = np.flatnonzero(np.unpackbits(np.frombuffer(group[:_PLACE_BYTES], np.uint8)))
            if len(places):
                by_length.setdefault(len(places), []).append((group, places))
        for alike in by_length.values():
            self._solve_alike(alike)
        return self._solutions

    def _solve_alike(self, alike: list[tuple[bytes, NDArray[np.intp]]]) -> None:
        weights = _WEIGHTS[np.stack([places for _, places in alike])]
        targets = np.array([int.from_bytes(group[_PLACE_BYTES:]) for group, _ in alike], np.uint64)
        waiting = np.ones(len(alike), bool)

        def keep(row: int, characters: bytes) -> None:
            group, places = alike[row]
            self._solutions[group] = _Solution(places, characters)
            waiting[row] = False

        totals = weights.sum(axis=1)
        for special in SPECIALS:
            delta = np.uint64((special - _UNDERSCORE) & _MASK)
            for row in np.flatnonzero(waiting & (totals * delta == targets)).tolist():
                keep(row, bytes([special]) * weights.shape[1])
        for row in range(len(alike)):
            fitted = self._fitted(weights[row], targets[row]) if waiting[row] else None
            if fitted is None:
                continue
            alphabet, characters = fitted
            keep(row, characters)
            others = np.flatnonzero(waiting)
            if self._affords(len(alphabet), len(others), weights.shape[1]):
                for other, found in _meet(alphabet, weights[others], targets[others]).items():
                    keep(int(others[other]), found)

    def _fitted(self, weights: Words, target: np.uint64) -> tuple[bytes, bytes] | None:
        """Return the first alphabet that makes ``target``, and the characters that do."""
        for alphabets in (_WITH_ONE, [_ANY] if len(weights) <= ANY_CHARACTERS else _WITH_TWO):
            size = len(alphabets[0])
            together = _LARGEST_SIDE // _side(size, len(weights))
            if not together:
                continue
            for start in range(0, len(alphabets), together):
                tried = alphabets[start : start + together]
                if not self._affords(size, len(tried), len(weights)):
                    return None
                if not _any_fits(tried, weights, target):
                    continue
                for alphabet in tried:
                    for characters in _meet(alphabet, weights[np.newaxis], np.array([target])).values():
                        return alphabet, characters
        return None

    def _affords(self, size: int, trials: int, length: int) -> bool:
        """Tell whether so many trials are allowed: always for short names, else as far as the budget goes."""
        if length > _ALWAYS[size]:
            self._budget -= 2 * trials * _side(size, length)
        return length <= _ALWAYS[size] or self._budget >= 0


def _side(size: int, length: int) -> int:
    """Return how many texts of ``size`` characters the longer half of ``length`` places has."""
    return int(size ** ((length + 1) // 2))


def _any_fits(alphabets: list[bytes], weights: Words, target: np.uint64) -> bool:
    """Tell whether one of the alphabets, all of one size, may make ``target``; wrong once in 2 ** 40."""
    half = len(weights) // 2
    deltas = np.concatenate([_deltas(alphabet) for alphabet in alphabets])
    tags = np.arange(len(alphabets), dtype=np.uint64)[:, np.newaxis] * np.uint64(_TAG)
    left = (_sums(deltas, weights[:half]) + tags).ravel()
    right = (np.array([target]) - _sums(deltas, weights[half:]) + tags).ravel()
    if len(left) > _WORTH_SIEVING:
        left, right = _sieved(left, right)
    # One sort finds equal sums much faster than a search. The last bit tells the sides apart: a pair of equal
    # sums of both sides ends up side by side, differing in it alone.
    both = np.concatenate([left & np.uint64(_MASK - 1), right | np.uint64(1)])
    both.sort()
    return bool(((both[1:] ^ both[:-1]) == 1).any())


def _sieved(left: Words, right: Words) -> tuple[Words, Words]:
    """Leave out the sums whose 18 mixed bits the other side does not have: nine of ten, without sorting them."""
    left_slots, right_slots = ((side * np.uint64(_TAG)) >> np.uint64(64 - 18) for side in (left, right))
    marked = np.zeros(1 << 18, bool)
    marked[left_slots] = True
    kept = marked[right_slots]
    marked[left_slots] = False
    marked[right_slots[kept]] = True
    return left[marked[left_slots]], right[kept]


def _meet(alphabet: bytes, weights: Words, targets: Words) -> dict[int, bytes]:
    """Return, by row, the characters of ``alphabet`` whose sum weighted with the row is the row's target."""
    rows, length = weights.shape
    half = length // 2
    deltas = _deltas(alphabet)
    found: dict[int, bytes] = {}
    together = max(1, _LARGEST_SIDE // _side(len(alphabet), length))
    for start in range(0, rows, together):
        part = slice(start, start + together)
        left = _sums(deltas, weights[part, :half])
        right = targets[part, np.newaxis] - _sums(deltas, weights[part, half:])
        both = np.concatenate([left, right], axis=1)
        order = np.argsort(both, axis=1, kind="stable")
        ranked = np.take_along_axis(both, order, axis=1)
        # Stable: of equal sums those of the left side stand first, so some pair at the border is (left, right).
        is_left = order < left.shape[1]
        pairs = (ranked[:, 1:] == ranked[:, :-1]) & is_left[:, :-1] & ~is_left[:, 1:]
        for row, column in zip(*np.nonzero(pairs), strict=True):
            left_text = _spelled(int(order[row, column]), half, alphabet)
            right_text = _spelled(int(order[row, column + 1]) - left.shape[1], length - half, alphabet)
            found.setdefault(start + int(row), left_text + right_text)
    return found


@lru_cache(maxsize=64)
def _deltas(alphabet: bytes) -> Words:
    """Return what each character but the underscore, which is the first, adds to the sum: a matrix of one row."""
    return np.array([[(character - _UNDERSCORE) & _MASK for character in alphabet[1:]]], np.uint64)


def _sums(deltas: Words, weights: Words) -> Words:
    """Return the weighted sums of all texts, in their order: a row for each row of ``deltas`` or of ``weights``."""
    size = deltas.shape[1] + 1
    length = weights.shape[-1]
    if size**length > _LARGEST_PATTERN:
        half = length // 2
        left, right = _sums(deltas, weights[..., :half]), _sums(deltas, weights[..., half:])
        return (left[:, :, np.newaxis] + right[:, np.newaxis, :]).reshape(len(left), -1)
    # A sum is linear in the characters: where each of them stands is weighed once for all alphabets.
    patterns = _patterns(size, length)
    if weights.ndim == 1:
        return deltas @ (patterns @ weights)
    planes = (weights @ pattern.T * delta for pattern, delta in zip(patterns, deltas[0], strict=True))
    return sum(planes, start=np.zeros((len(weights), size**length), np.uint64))


@lru_cache(maxsize=64)
def _patterns(size: int, length: int) -> Words:
    """Return, for each character but the first, where it stands in every text of ``length`` over ``size``."""
    digits = np.indices((size,) * length, np.uint8).reshape(length, size**length).T
    return np.stack([digits == character for character in range(1, size)]).astype(np.uint64)


def _spelled(index: int, length: int, alphabet: bytes) -> bytes:
    """Return the characters behind the position of a sum: a number of ``length`` digits in base ``len(alphabet)``."""
    characters = bytearray(length)
    for place in range(length - 1, -1, -1):
        index, digit = divmod(index, len(alphabet))
        characters[place] = alphabet[digit]
    return bytes(characters)
