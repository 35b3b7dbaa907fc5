"""Meeting in the middle: characters of an alphabet whose weighted sum is a given number, for many rows at once.

All sums that the left half of the places can make are compared with what those of the right half leave. It needs no
lattice, so it is the quickest where every text has places of its own, and few kinds of characters reach 34 places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from persistkit.keys.lattice import Bytes, Integers, Words

__all__ = ["met", "texts_of"]

# Odd, from the golden ratio. What is equal stays equal when multiplied by it, and the high bits get well mixed.
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_TAG: Final = np.uint64(0x9E3779B97F4A7C15**2 % (1 << 64))
_SPARSE_BITS: Final = 4


def met(alphabet: bytes, weights: Words, targets: Words) -> tuple[Integers, Bytes]:
    """Return the characters of ``alphabet`` whose differences from ``_``, weighted, add up to a row's target.

    The weights have one row for each target, one column for each place. All solutions are returned, by row: the row of
    each, and its characters.
    """
    letters = np.frombuffer(alphabet, np.uint8)
    deltas = letters.astype(np.uint64) - np.uint64(ord("_"))
    rows, count = weights.shape
    half = count // 2
    weights = weights * _FACTOR
    # A number of its own is added to all sums of a row, so that sums of different rows are not equal.
    tags = np.arange(rows, dtype=np.uint64) * _TAG
    left_at, right_at = _equal(
        _sums(deltas, weights[:, :half], tags),
        _sums(np.uint64(0) - deltas, weights[:, half:], tags + targets * _FACTOR),
    )
    same_row = np.flatnonzero(left_at % rows == right_at % rows)
    same_row = same_row[np.argsort(left_at[same_row] % rows, kind="stable")]
    powers = len(alphabet) ** np.arange(count - half)
    left_digits = left_at[same_row, None] // rows // powers[:half]
    right_digits = right_at[same_row, None] // rows // powers
    characters = letters[np.concatenate([left_digits, right_digits], axis=1) % len(alphabet)]
    return left_at[same_row] % rows, characters


def texts_of(alphabet: bytes, exponents: list[int], number: int) -> int:
    """Return at how many texts of ``alphabet`` the places with these exponents add up to ``number``."""
    weights = np.array([[pow(33, exponent, 1 << 64) for exponent in exponents]], np.uint64)
    return len(met(alphabet, weights, np.array([number], np.uint64))[0])


def _sums(deltas: Words, weights: Words, starts: Words) -> Words:
    """Return all sums that rows can make, the row running fastest, then the character at the first place."""
    sums = starts[None, :]
    for weight in weights.T:
        sums = (sums + (deltas[:, None] * weight)[:, None, :]).reshape(-1, len(starts))
    return sums.ravel()


def _equal(left: Words, right: Words) -> tuple[Integers, Integers]:
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
