"""The solver: what the ``_`` in many sanitized texts were, from the hashes of the keys.

With ``p`` the sanitized text and ``h`` the hash, ``h - djb2(p)`` is the sum over the places in doubt, those of the
``_``, of (character - ``_``) * 33 ** (bytes after it), modulo 2 ** 64. Texts with the same places, counted from the
end, and the same sum form a group, which is solved once, in three stages:

1. *Few kinds of characters*, at up to as many places as the caller says, by ``meeting``, for many groups at once. It is
   the quickest for paths, which all have different places.
2. *Up to eleven places*: all solutions, by ``lattice``.
3. *More places*: nine by lattice, the others guessed in the order of ``guesses``, in rounds: every group gets the same
   effort before any gets more, and what was solved teaches the guesses. Twelve and thirteen places come to an end: all
   texts were tried.

A text that fits is an accident with a probability of (texts tried for this group) / 2 ** 64. Where that is more than
10 ** -7, and not all texts were tried, the key found is said to be incomplete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import mul
from time import monotonic
from typing import TYPE_CHECKING, Final

import numpy as np

from persistkit.keys.guesses import Guesses, Likelihoods
from persistkit.keys.lattice import DIGITS, DIMENSIONS, POWERS, all_guesses, lattices_of, weighted
from persistkit.keys.meeting import met

if TYPE_CHECKING:
    from persistkit.keys.lattice import Bytes, Integers, Words

__all__ = ["Solver"]

_UNDERSCORE: Final = np.uint8(ord("_"))
_START: Final = np.uint64(5381)
_INVERSES: Final = np.array([pow(33, -exponent, 1 << 64) for exponent in range(len(POWERS))], np.uint64)

_BLOCK_SUMS: Final = 1 << 16
_MOST_PLACES: Final = 11  # at which all texts are tried
_TEN: Final = bytes((DIGITS + ord("_")).tolist())
_USUAL_KINDS: Final = 2
_FEWEST_PLACES: Final = 5  # for which a lattice is worth it, and exact in floating point
_BATCH: Final = 64
_TARGETS: Final = 1 << 12
_ROUNDS: Final = (64, 512, 2000, 10_000)  # guesses, each of 10 ** 9 texts; at 12 and 13 places these are all
_SECONDS: Final = 50.0
_CERTAIN_GUESSES: Final = 1000  # in which a text that fits is an accident with a probability of less than 10 ** -7
_LESSONS: Final = 500


class Solver:
    """The keys of many sanitized texts.

    Args:
        texts: the sanitized texts, at most 256 bytes each.
        hashes: the hash of each, 8 bytes, the highest first.
        few_kinds: characters, and from how many to how many places keys of them alone are found in the first stage;
            the most usual ones first.
    """

    def __init__(self, texts: Sequence[bytes], hashes: bytes, few_kinds: Sequence[tuple[bytes, int, int]]) -> None:
        self._texts = texts
        self._few_kinds = few_kinds
        self._lengths = np.array([len(text) for text in texts], np.intp)
        self._width = max(1, int(self._lengths.max(initial=0)))
        # The texts are aligned to the right: a column is a number of bytes after it.
        joined = b"".join([text.rjust(self._width, b"\0") for text in texts])
        self._bytes = np.frombuffer(joined, np.uint8).reshape(-1, self._width)
        places = np.packbits(self._bytes[:, ::-1] == _UNDERSCORE, axis=1)
        sums = np.frombuffer(hashes, ">u8").astype(np.uint64) - _START * POWERS[self._lengths] - _folded(self._bytes)
        identities = np.concatenate([places, sums[:, None].view(np.uint8)], axis=1)
        numbers: dict[bytes, int] = {}
        names = identities.view(f"V{identities.shape[1]}").ravel().tolist()
        self._groups = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.intp)
        self._firsts = np.unique(self._groups, return_index=True)[1]
        self._sums = sums[self._firsts]
        self._in_doubt = self._bytes[self._firsts, ::-1] == _UNDERSCORE
        self._counts = self._in_doubt.sum(axis=1)
        self._every_count: list[int] = np.unique(self._counts[self._counts > 0]).tolist()
        self._deltas = np.zeros(self._in_doubt.shape, np.uint8)
        self._found = self._sums == 0
        self._given = np.zeros(len(numbers), bool)
        self._others: dict[int, Bytes] = {}
        self._incomplete: set[int] = set()

    def solve_easy(self) -> None:
        """Solve all texts of up to nine places, and those of the most usual kinds of characters."""
        for count in self._every_count:
            if count < _FEWEST_PLACES:
                self._solve_few_kinds(count, [_TEN])
                continue
            self._solve_few_kinds(count, self._kinds_at(count)[:_USUAL_KINDS])
            if count <= DIMENSIONS:
                self._solve_all(count)

    def solve_all(self) -> None:
        """Find all texts of five to eleven places, also where one was found."""
        self._found[:] = False
        for count in range(_FEWEST_PLACES, _MOST_PLACES + 1):
            self._solve_all(count)

    def rounds(self, lessons: Sequence[bytes]) -> Iterator[None]:
        """Solve what ``solve_easy`` left: few kinds of characters, up to eleven places, then what is likely.

        The likely texts, as ``lessons`` and the keys found make them, are tried for as long as there is time.
        """
        deadline = monotonic() + _SECONDS
        for count in self._every_count:
            self._solve_few_kinds(count, self._kinds_at(count)[_USUAL_KINDS:])
        yield
        for count in range(DIMENSIONS + 1, _MOST_PLACES + 1):
            self._solve_all(count)
            yield
        hard = np.flatnonzero(~self._found & (self._counts > _MOST_PLACES))
        if not len(hard):
            return
        likelihoods = Likelihoods([*lessons[:: len(lessons) // _LESSONS + 1], *self.lessons()])
        for most in _ROUNDS:
            if most == _ROUNDS[-1]:
                hard = hard[self._counts[hard] == _MOST_PLACES + 2]
            for start in range(0, len(hard), _BATCH):
                if monotonic() > deadline:
                    break
                self._solve_likely(hard[start : start + _BATCH], likelihoods, most)
            yield
            hard = hard[~self._found[hard]]

    def lessons(self) -> list[bytes]:
        """Return some of the keys found, from which the likeliest characters can be learned."""
        solved = np.flatnonzero(self._found & (self._counts > 0))
        return [self._key(self._firsts[group], self._deltas[group]) for group in solved[:: len(solved) // _LESSONS + 1]]

    def solved(self) -> Iterator[tuple[int, bytes, int]]:
        """Iterate over the texts solved since the last time: row, key, and a number for ``more`` or -1."""
        groups = self._found & ~self._given
        self._given |= groups
        rows = np.flatnonzero(groups[self._groups])
        owners = self._groups[rows]
        keys = (self._bytes[rows] + self._deltas[owners]).tobytes()
        ends = np.arange(1, len(rows) + 1) * self._width
        begins = ends - self._lengths[rows]
        found = [keys[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        special = [*self._others, *self._incomplete]
        return zip(rows.tolist(), found, np.where(np.isin(owners, special), owners, -1).tolist(), strict=True)

    def more(self, row: int, group: int) -> tuple[list[bytes], bool]:
        """Return the other keys found for a solved text, and whether the keys found are all but for carries."""
        return [self._key(row, deltas) for deltas in self._others.get(group, ())], group not in self._incomplete

    def unsolved(self) -> list[int]:
        """Return the rows of the texts that are not solved."""
        rows: list[int] = np.flatnonzero(~self._found[self._groups]).tolist()
        return rows

    def _key(self, row: int, deltas: Bytes) -> bytes:
        key: bytes = (self._bytes[row] + deltas)[self._width - self._lengths[row] :].tobytes()
        return key

    def _places(self, groups: Integers, count: int) -> Integers:
        """Return the exponents of the places in doubt, ascending, of groups that have ``count`` of them."""
        places: Integers = self._in_doubt[groups].nonzero()[1].reshape(-1, count)
        return places

    def _record(self, group: int, exponents: Integers, digits: Integers) -> None:
        """Keep the solutions of a group, one row each; the exponents are those of the columns."""
        deltas = np.zeros((len(digits), self._width), np.uint8)
        deltas[:, -1 - exponents] = digits.astype(np.uint8)
        self._deltas[group] = deltas[0]
        self._found[group] = True
        if len(digits) > 1:
            self._others[group] = deltas[1:]

    def _kinds_at(self, count: int) -> list[bytes]:
        return [letters for letters, fewest, most in self._few_kinds if fewest <= count <= most]

    def _solve_few_kinds(self, count: int, alphabets: list[bytes]) -> None:
        """Solve groups of ``count`` places in doubt where all characters are of one of the alphabets."""
        for alphabet in alphabets:
            groups = np.flatnonzero(~self._found & (self._counts == count))
            block = max(1, _BLOCK_SUMS // len(alphabet) ** ((count + 1) // 2))
            for start in range(0, len(groups), block):
                some = groups[start : start + block]
                places = self._places(some, count)
                at, characters = met(alphabet, POWERS[places], self._sums[some])
                at, first = np.unique(at, return_index=True)
                self._deltas[some[at, None], -1 - places[at]] = characters[first] - _UNDERSCORE
                self._found[some[at]] = True

    def _solve_all(self, count: int) -> None:
        """Find all solutions of the groups with five to eleven places in doubt: nine by lattice, the others guessed."""
        groups = np.flatnonzero(~self._found & (self._counts == count))
        if not len(groups):
            return
        places = self._places(groups, count)
        guesses = all_guesses(count - DIMENSIONS)
        patterns, owners = np.unique(places[:, :DIMENSIONS] - places[:, :1], axis=0, return_inverse=True)
        by_pattern = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1])
        step = max(1, _TARGETS // len(guesses))
        for mine, lattice in zip(by_pattern, lattices_of(patterns), strict=True):
            for start in range(0, len(mine), step):
                some = mine[start : start + step]
                shares = weighted(guesses[None], POWERS[places[some, None, DIMENSIONS:]])
                rests = self._sums[groups[some], None] - shares
                rows, digits = lattice.solutions((rests * _INVERSES[places[some, :1]]).ravel())
                digits = np.concatenate([digits, guesses[rows % len(guesses)]], axis=1)
                owned = rows // len(guesses)
                for row in np.unique(owned).tolist():
                    self._record(int(groups[some[row]]), places[some[row]], digits[owned == row])

    def _solve_likely(self, groups: Integers, likelihoods: Likelihoods, most: int) -> None:
        """Try the likeliest texts of groups with more places in doubt."""
        texts = [self._texts[row] for row in self._firsts[groups]]
        guesses = [Guesses(likelihoods.of(text), most) for text in texts]
        free = np.array(
            [[len(text) - 1 - place for place in guess.free] for text, guess in zip(texts, guesses, strict=True)]
        )
        lowest = free.min(axis=1, keepdims=True)
        for group, text, guess, lattice, exponents in zip(
            groups.tolist(), texts, guesses, lattices_of(free - lowest), free, strict=True
        ):
            guessed = len(text) - 1 - np.array(guess.guessed)
            rests = self._sums[group] - weighted(guess.digits, POWERS[guessed])
            rows, digits = lattice.solutions(rests * _INVERSES[exponents.min()])
            if not len(rows):
                continue
            exponents, digits = np.append(exponents, guessed), np.concatenate([digits, guess.digits[rows]], axis=1)
            self._record(group, exponents, digits)
            # Sums that are equal without the modulus differ by carries only.
            powers = [33**exponent for exponent in exponents.tolist()]
            sums = {sum(map(mul, row, powers)) for row in digits.tolist()}
            all_tried = len(guess.digits) == len(DIGITS) ** len(guessed)
            if not all_tried and (len(sums) > 1 or most > _CERTAIN_GUESSES):
                self._incomplete.add(group)
            likelihoods.learn(self._key(self._firsts[group], self._deltas[group]))


def _folded(texts: Bytes) -> Words:
    """Return djb2 of each row without its start: the sum of byte * 33 ** (bytes after it)."""
    sums = np.zeros(len(texts), np.uint64)
    for column in np.ascontiguousarray(texts.T):
        sums *= np.uint64(33)
        sums += column
    return sums
