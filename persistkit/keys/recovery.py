"""Recovery: what the ``_`` in many sanitized texts were, from the hashes of the keys.

With ``p`` the sanitized text and ``h`` the hash, ``h - djb2(p)`` is the sum over the unknown places, those of the
``_``, of (character - ``_``) * 33 ** (bytes after it), modulo 2 ** 64. Texts with the same places, counted from the
end, and the same sum form a group. A group is solved once, by meeting in the middle: the sums that the left half of
the places can make are compared with what those of the right half leave. NumPy does that for many groups at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Rows = NDArray[np.intp]

__all__ = ["recovered"]

_UNDERSCORE: Final = np.uint8(ord("_"))
_START: Final = np.uint64(5381)
_LONGEST_TEXT: Final = 256
_POWERS: Final = np.array([pow(33, exponent, 1 << 64) for exponent in range(_LONGEST_TEXT + 1)], np.uint64)
_PLACE_BYTES: Final = _LONGEST_TEXT // 8
_IDENTITY_BYTES: Final = _PLACE_BYTES + 8

# Odd, from the golden ratio. What is equal stays equal when multiplied by it, and the high bits get well mixed.
_FACTOR: Final = 0x9E3779B97F4A7C15
_WEIGHTS: Final = _POWERS * np.uint64(_FACTOR)
_TAG: Final = np.uint64(_FACTOR * _FACTOR % (1 << 64))

_RESIDUES: Final = 32
_CHUNK: Final = 1 << 15
_BLOCK_SUMS: Final = 1 << 16
_BUDGET_SUMS: Final = 25_000_000
_SPARSE_BITS: Final = 4


def recovered(
    texts: Sequence[bytes], hashes: bytes, alphabets: Sequence[tuple[bytes, int, int]]
) -> Iterator[bytes | None]:
    """Iterate over the keys that have the sanitized ``texts`` and the ``hashes``, None where none was found.

    A key is found when the characters at its unknown places all belong to one of the alphabets and are not too many
    for it. Where several fit it is that of the earliest alphabet by size.

    Args:
        texts: the sanitized texts, at most 256 bytes each.
        hashes: the hash of each, 8 bytes, the highest first.
        alphabets: the characters; up to how many unknown places they are always tried; up to how many they are tried
            as long as a budget lasts that all texts share, about half a second of work.
    """
    groups: dict[bytes, int] = {}
    chunks = [
        _Chunk.of(texts[start : start + _CHUNK], hashes[8 * start : 8 * (start + _CHUNK)], groups)
        for start in range(0, len(texts), _CHUNK)
    ]
    if chunks:
        solver = _Solver(groups, width=max(chunk.texts.shape[1] for chunk in chunks))
        solver.solve(alphabets)
        for chunk in chunks:
            yield from chunk.keys(solver)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some texts as arrays.

    Attributes:
        texts: the texts, aligned to the right.
        hashes: the hashes less the share of djb2's start, so that ``_folded`` of the key's bytes equals its hash.
        groups: the number of each text's group.
    """

    texts: Bytes
    lengths: list[int]
    hashes: Words
    groups: Rows

    @classmethod
    def of(cls, texts: Sequence[bytes], hashes: bytes, groups: dict[bytes, int]) -> _Chunk:
        """Lay out the texts and number the groups not seen before."""
        lengths = [len(text) for text in texts]
        width = max(1, *lengths)
        matrix = np.frombuffer(b"".join([text.rjust(width, b"\0") for text in texts]), np.uint8).reshape(-1, width)
        shares = np.frombuffer(hashes, ">u8").astype(np.uint64) - _START * _POWERS[lengths]
        places = np.packbits(matrix[:, ::-1] == _UNDERSCORE, axis=1)
        identities = np.zeros((len(texts), _IDENTITY_BYTES), np.uint8)
        identities[:, : places.shape[1]] = places
        identities[:, _PLACE_BYTES:] = (shares - _folded(matrix)).astype(">u8").view(np.uint8).reshape(-1, 8)
        names = identities.view(f"V{_IDENTITY_BYTES}").ravel().tolist()
        return cls(matrix, lengths, shares, np.array([groups.setdefault(name, len(groups)) for name in names]))

    def keys(self, solver: _Solver) -> Iterator[bytes | None]:
        """Put what was found into the texts; what then has the right hash is a key, and nothing else is."""
        texts = self.texts + solver.deltas[self.groups, -self.texts.shape[1] :]
        fits = solver.found[self.groups] & (_folded(texts) == self.hashes)
        blob = texts.tobytes()
        ends = range(texts.shape[1], len(blob) + 1, texts.shape[1])
        for end, length, fit in zip(ends, self.lengths, fits.tolist(), strict=True):
            yield blob[end - length : end] if fit else None


class _Solver:
    """Finds, for groups of texts, what each unknown character was.

    Attributes:
        found: for each group, whether it is solved.
        deltas: for each group, what is to be added to each byte of its texts, aligned to the right.
    """

    def __init__(self, groups: Iterable[bytes], *, width: int) -> None:
        self._identities = np.frombuffer(b"".join(groups), np.uint8).reshape(-1, _IDENTITY_BYTES)
        sums = np.ascontiguousarray(self._identities[:, _PLACE_BYTES:]).view(">u8").ravel().astype(np.uint64)
        self._sums = sums * np.uint64(_FACTOR)
        self._residues = (sums % np.uint64(_RESIDUES)).astype(np.intp)
        self._fits: Counter[bytes] = Counter()
        self._budget = _BUDGET_SUMS
        self.found = sums == 0
        self.deltas = np.zeros((len(sums), width), np.uint8)

    def solve(self, alphabets: Sequence[tuple[bytes, int, int]]) -> None:
        """Solve all groups: first what is always solved, then the others as long as the budget lasts."""
        counts = np.bitwise_count(self._identities[:, :_PLACE_BYTES]).sum(axis=1)
        for within_budget in (False, True):
            for count in np.unique(counts[~self.found & (counts > 0)]).tolist():
                if within_budget:
                    tried = [letters for letters, always, at_most in alphabets if always < count <= at_most]
                else:
                    tried = [letters for letters, always, _ in alphabets if count <= always]
                rows = np.flatnonzero(~self.found & (counts == count))
                if within_budget and tried:
                    # The budget must fall on the same groups in whatever order the texts came.
                    rows = np.array(sorted(rows.tolist(), key=lambda row: self._identities[row].tobytes()))
                for start in range(0, len(rows), _CHUNK):
                    self._solve_alike(rows[start : start + _CHUNK], count, tried, within_budget=within_budget)

    def _solve_alike(self, rows: Rows, count: int, alphabets: list[bytes], *, within_budget: bool) -> None:
        """Solve groups with the same number of unknown places; alphabets that fitted most often go first."""
        places = np.unpackbits(self._identities[rows, :_PLACE_BYTES], axis=1).nonzero()[1].reshape(-1, count)
        for alphabet in sorted(alphabets, key=lambda alphabet: (len(alphabet), -self._fits[alphabet])):
            unsolved = ~self.found[rows]
            rows, places = rows[unsolved], places[unsolved]
            likely = np.flatnonzero(_possible(alphabet, count)[self._residues[rows]])
            side = len(alphabet) ** ((count + 1) // 2)
            if within_budget:
                likely = likely[: self._budget // (2 * side)]
                self._budget -= 2 * side * len(likely)
            block = max(1, _BLOCK_SUMS // side)
            for start in range(0, len(likely), block):
                some = likely[start : start + block]
                at, characters = _met(alphabet, _WEIGHTS[places[some]], self._sums[rows[some]])
                solved = rows[some][at]
                self.deltas[solved[:, None], -1 - places[some][at]] = characters - _UNDERSCORE
                self.found[solved] = True
                self._fits[alphabet] += len(solved)


def _folded(texts: Bytes) -> Words:
    """Return djb2 of each row without its start: the sum of byte * 33 ** (bytes after it)."""
    sums = np.zeros(len(texts), np.uint64)
    for column in np.ascontiguousarray(texts.T):
        sums *= np.uint64(33)
        sums += column
    return sums


def _possible(alphabet: bytes, count: int) -> NDArray[np.bool_]:
    """Tell which residues modulo 32 a sum of ``count`` places can have.

    All powers of 33 leave 1, so it depends on the characters alone; half of the alphabets fall out at once.
    """
    residues = 1
    for _ in range(count):
        turned = 0
        for letter in alphabet:
            turned |= residues << (letter - ord("_")) % _RESIDUES
        residues = (turned | turned >> _RESIDUES) & ((1 << _RESIDUES) - 1)
    return np.array([bool(residues >> residue & 1) for residue in range(_RESIDUES)])


def _met(alphabet: bytes, weights: Words, targets: Words) -> tuple[Rows, Bytes]:
    """Find characters of ``alphabet`` whose differences from ``_``, weighted, add up to a row's target.

    Returns the rows that have a solution and, for each, its characters.
    """
    letters = np.frombuffer(alphabet, np.uint8)
    deltas = (letters.astype(np.int64) - _UNDERSCORE).astype(np.uint64)
    rows, count = weights.shape
    half = count // 2
    # A number of its own is added to all sums of a row, so that sums of different rows are not equal.
    tags = np.arange(rows, dtype=np.uint64) * _TAG
    left_at, right_at = _equal(
        _sums(deltas, weights[:, :half], tags), _sums(-deltas, weights[:, half:], tags + targets)
    )
    same_row = left_at % rows == right_at % rows
    solved, first = np.unique((left_at % rows)[same_row], return_index=True)
    powers = len(alphabet) ** np.arange(count - half)
    left_digits = left_at[same_row][first, None] // rows // powers[:half]
    right_digits = right_at[same_row][first, None] // rows // powers
    return solved, letters[np.concatenate([left_digits, right_digits], axis=1) % len(alphabet)]


def _sums(deltas: Words, weights: Words, starts: Words) -> Words:
    """Return all sums that rows can make, the row running fastest, then the character at the first place."""
    sums = starts[None, :]
    for weight in weights.T:
        sums = (sums + (deltas[:, None] * weight)[:, None, :]).reshape(-1, len(starts))
    return sums.ravel()


def _equal(left: Words, right: Words) -> tuple[Rows, Rows]:
    """Return where a number on the left equals one on the right, all pairs."""
    # Tables of some of the numbers' bits are three times faster than sorting, and leave few numbers to be sorted.
    bits = len(left).bit_length() + _SPARSE_BITS
    near_right = np.flatnonzero(_seen(left, right, bits, 64 - bits))
    near_left = np.flatnonzero(_seen(right[near_right], left, bits, 64 - 2 * bits))
    near_right = near_right[_seen(left[near_left], right[near_right], bits, 64 - 2 * bits)]
    near_left = near_left[np.argsort(left[near_left])]
    starts = np.searchsorted(left[near_left], right[near_right])
    times = np.searchsorted(left[near_left], right[near_right], "right") - starts
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return near_left[np.repeat(starts, times) + within], np.repeat(near_right, times)


def _seen(some: Words, others: Words, bits: int, shift: int) -> NDArray[np.bool_]:
    """Return which of the others have the same ``bits`` bits above ``shift`` as one of some."""
    table = np.zeros(1 << bits, bool)
    low, mask = np.uint64(shift), np.uint64((1 << bits) - 1)
    table[(some >> low & mask).view(np.int64)] = True
    seen: NDArray[np.bool_] = table[(others >> low & mask).view(np.int64)]
    return seen
