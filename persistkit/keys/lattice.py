"""Lattices: all texts of up to eleven places in doubt that give a hash.

Each ``_`` of a sanitized text was one of ten characters. With the digit d = character - ``_`` of each such place, one
of ten numbers from -61 to 29, and the exponent e = bytes after the place, the hash says

    d1 * 33**e1 + ... + dn * 33**en = t  (mod 2**64),        t = hash - djb2(sanitized text)

The integer vectors with sum 0 are a lattice of determinant 2**64; those with sum t are that lattice, moved. So the
keys are the moved lattice's points whose coordinates are all digits: for nine places the box from -61 to 29 holds 0.02
points on average, beside the key. Three steps find them:

1. A basis of short vectors (A. K. Lenstra, H. W. Lenstra and L. Lovasz, 1982), once per pattern of exponents. It
   depends on their differences only, since a common factor 33**e can be divided out.
2. One point of the moved lattice, by exact arithmetic modulo 2**64.
3. All points in the box, one basis vector after the other, from the last (U. Fincke and M. Pohst, 1985). Each basis
   vector has a part g that is orthogonal to the basis vectors before it. How often it is added decides the
   point's component along g, which must be one that the box has: only a few multiples remain. A
   coordinate that the vectors still to come do not change must be a digit at once, which makes neighbouring places
   cheap. Nothing else is left out, so the points found are all there are.

In more than nine dimensions the box holds too many points. So of eleven places all hundred guesses at two are
subtracted from t, and nine remain.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Integers = NDArray[np.signedinteger]
    Reals = NDArray[np.float64]

__all__ = ["DIGITS", "DIMENSIONS", "POWERS", "Lattice", "all_guesses", "lattices_of", "weighted"]

DIMENSIONS: Final = 9

# The extra `keys`: ten times as fast for one pattern, twice for many.
flint: Any = import_module("flint") if find_spec("flint") else None
DIGITS: Final = np.array([byte - ord("_") for byte in sorted(b'"*/:<>?\\_|')], np.int64)

_MODULUS: Final = 1 << 64
POWERS: Final = np.array([pow(33, exponent, _MODULUS) for exponent in range(257)], np.uint64)
_MIDDLE: Final = -16
_HALF_WIDTH: Final = 45.25  # the box around the middle, with room for rounding
_FAR: Final = 128
_IS_DIGIT: Final = np.isin(np.arange(-_FAR, _FAR + 1), DIGITS)
_BLOCK: Final = 1 << 13
_BATCH: Final = 256
_STEP_BITS: Final = 8
_INVERSES: Final = np.array([pow(odd | 1, -1, 1 << _STEP_BITS) for odd in range(1 << _STEP_BITS)], np.int64)


class Lattice:
    """The digits at up to nine places whose weighted sum is a given number, for one pattern of places."""

    def __init__(self, weights: Words, basis: Integers, coordinates: Words) -> None:
        """Take the weights, a reduced basis and the coordinates, times 2 ** 64, of a vector whose sum is 1."""
        self._weights = weights
        self._coordinates = coordinates
        self._basis = basis.astype(np.float64)
        orthogonal, triangle = np.linalg.qr(self._basis.T)
        self._along = (orthogonal / triangle.diagonal()).T
        self._reach = np.abs(self._along).sum(axis=1) * _HALF_WIDTH
        self._middle = (np.uint64(_MIDDLE % _MODULUS) * weights).sum(dtype=np.uint64)
        # The coordinates that no earlier basis vector changes, but the vector itself does.
        firsts = (basis != 0).argmax(axis=0)
        self._fixed = [np.flatnonzero(firsts == level) for level in range(len(basis))]

    def solutions(self, targets: Words) -> tuple[Integers, Integers]:
        """Return all solutions: the row of the target each belongs to, and its digits."""
        shares = ((targets - self._middle)[:, None] * self._coordinates).view(np.int64) / float(_MODULUS)
        found_rows, found_digits = [np.zeros(0, np.int64)], [np.zeros((0, len(self._basis)), np.int64)]
        waiting = [(len(self._basis), shares @ self._basis, np.arange(len(targets)))]
        while waiting:
            level, points, rows = waiting.pop()
            if len(rows) > _BLOCK:
                half = len(rows) // 2
                waiting += (level, points[:half], rows[:half]), (level, points[half:], rows[half:])
            elif level and len(rows):
                waiting.append((level - 1, *self._moved(level - 1, points, rows)))
            elif len(rows):
                digits = np.rint(points).astype(np.int64) + _MIDDLE
                # Exact, whatever was rounded before.
                exact = weighted(digits, self._weights) == targets[rows]
                found_rows.append(rows[exact])
                found_digits.append(digits[exact])
        return np.concatenate(found_rows), np.concatenate(found_digits)

    def _moved(self, level: int, points: Reals, rows: Integers) -> tuple[Reals, Integers]:
        """Move each point by all multiples of one basis vector that can still lead into the box."""
        centers = points @ self._along[level]
        lowest = np.ceil(centers - self._reach[level])
        counts = np.maximum(np.floor(centers + self._reach[level]) - lowest + 1, 0).astype(np.int64)
        origins = np.repeat(np.arange(len(rows)), counts)
        multiples = lowest[origins] + (np.arange(len(origins)) - (np.cumsum(counts) - counts)[origins])
        points = points[origins] - multiples[:, None] * self._basis[level]
        rows = rows[origins]
        for place in self._fixed[level]:
            digits = np.clip(np.rint(points[:, place]) + _MIDDLE, -_FAR, _FAR).astype(np.int64)
            fits = _IS_DIGIT[digits + _FAR]
            points, rows = points[fits], rows[fits]
        return points, rows


def lattices_of(patterns: Integers) -> Iterator[Lattice]:
    """Iterate over the lattices of patterns of at least five exponents, one row each."""
    for start in range(0, len(patterns), _BATCH):
        weights = POWERS[patterns[start : start + _BATCH]]
        # Lists, because making lattices and searching them in turns takes a quarter longer.
        if flint is None:
            yield from list(map(Lattice, weights, *_reduced(weights)))
        else:
            yield from [Lattice(row, *_reduced_by_flint(row.tolist())) for row in weights]


def all_guesses(places: int) -> Integers:
    """Return all digits that so many places can have, one row each."""
    return np.array(list(product(DIGITS.tolist(), repeat=max(0, places))), np.int64).reshape(10 ** max(0, places), -1)


def weighted(digits: Integers, weights: Words) -> Words:
    """Return the sum of digits times weights of each row."""
    sums: Words = (digits.view(np.uint64) * weights).sum(axis=-1, dtype=np.uint64)
    return sums


def _reduced_by_flint(weights: list[int]) -> tuple[Integers, Words]:
    inverse = pow(weights[0], -1, _MODULUS)
    rows = [[int(row == column) for column in range(len(weights))] for row in range(len(weights))]
    for row, weight in enumerate(weights):
        rows[row][0] = -weight * inverse % _MODULUS if row else _MODULUS
    basis = flint.fmpz_mat(rows).lll()
    numerators, denominator = basis.inv().numer_denom()
    scale = _MODULUS // int(denominator) * inverse
    coordinates = [int(numerators[0, column]) * scale % _MODULUS for column in range(len(weights))]
    return np.array([[int(entry) for entry in row] for row in basis.tolist()]), np.array(coordinates, np.uint64)


def _reduced(weights: Words) -> tuple[Integers, Words]:
    """Reduce the lattices of many patterns at the same time.

    The vectors whose sum is 0 modulo 2 ** k contain those modulo 2 ** (k + 8), so a short basis of the one gives a
    nearly short basis of the other. That keeps all numbers small, and floating point is exact enough.
    """
    count, size = weights.shape
    every = np.arange(count)
    bases = np.tile(np.eye(size, dtype=np.int64), (count, 1, 1))
    coordinates = np.zeros((count, size), np.uint64)
    coordinates[:, 0] = [pow(weight, -1, _MODULUS) for weight in weights[:, 0].tolist()]
    for bits in range(0, 64, _STEP_BITS):
        sums = (bases.view(np.uint64) * weights[:, None, :]).sum(axis=2, dtype=np.uint64)
        rests = (sums >> np.uint64(bits)).astype(np.int64) & ((1 << _STEP_BITS) - 1)
        pivots = np.argmax(rests & 1, axis=1)
        factors = rests * _INVERSES[rests[every, pivots]][:, None] & ((1 << _STEP_BITS) - 1)
        factors -= factors >> (_STEP_BITS - 1) << _STEP_BITS
        factors[every, pivots] = 0
        bases -= factors[:, :, None] * bases[every, pivots][:, None, :]
        pivotal = coordinates[every, pivots] + (factors.view(np.uint64) * coordinates).sum(axis=1, dtype=np.uint64)
        coordinates <<= np.uint64(_STEP_BITS)
        coordinates[every, pivots] = pivotal
        bases[every, pivots] <<= _STEP_BITS
        _shorten(bases, coordinates)
    return bases, coordinates


def _shorten(bases: Integers, coordinates: Words) -> None:
    """Reduce the bases in place as LLL does, with all exchanges of every second pair at once."""
    active, parity, size = np.arange(len(bases)), 0, bases.shape[1]
    while len(active):
        some, theirs = bases[active], coordinates[active]
        triangle = np.asarray(np.linalg.qr(some.transpose(0, 2, 1).astype(np.float64), mode="r"))
        lengths = np.diagonal(triangle, 0, 1, 2)
        shares = triangle / lengths[:, :, None]
        for row in range(1, size):
            for other in range(row - 1, -1, -1):
                times = np.rint(shares[:, other, row])
                shares[:, : other + 1, row] -= times[:, None] * shares[:, : other + 1, other]
                whole = times.astype(np.int64)
                some[:, row] -= whole[:, None] * some[:, other]
                theirs[:, other] += whole.view(np.uint64) * theirs[:, row]
        squares = lengths**2
        between = shares[:, np.arange(size - 1), np.arange(1, size)]
        wrong = squares[:, 1:] < (0.99 - between**2) * squares[:, :-1]
        for row in range(parity, size - 1, 2):
            swapped = np.flatnonzero(wrong[:, row])[:, None]
            some[swapped, [row, row + 1]] = some[swapped, [row + 1, row]]
            theirs[swapped, [row, row + 1]] = theirs[swapped, [row + 1, row]]
        bases[active], coordinates[active] = some, theirs
        active, parity = active[wrong.any(axis=1)], 1 - parity
