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

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul
from time import monotonic
from typing import TYPE_CHECKING, Final

import numpy as np

from persistkit.keys.guesses import Guesses, Likelihoods
from persistkit.keys.lattice import DIGITS, DIMENSIONS, Lattice, all_guesses, lattices_of, weighted
from persistkit.keys.meeting import met

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from persistkit.keys.lattice import Integers, Words

    Bytes = NDArray[np.uint8]
    Rows = NDArray[np.intp]

__all__ = ["FewKinds", "Solver"]

FewKinds = Sequence[tuple[bytes, int, int]]

_UNDERSCORE: Final = np.uint8(ord("_"))
_START: Final = np.uint64(5381)
_LONGEST_TEXT: Final = 256
_POWERS: Final = np.array([pow(33, exponent, 1 << 64) for exponent in range(_LONGEST_TEXT + 1)], np.uint64)
_INVERSES: Final = np.array([pow(33, -exponent, 1 << 64) for exponent in range(_LONGEST_TEXT + 1)], np.uint64)
_PLACE_BYTES: Final = _LONGEST_TEXT // 8
_IDENTITY_BYTES: Final = _PLACE_BYTES + 8

_CHUNK: Final = 1 << 15
_BLOCK_SUMS: Final = 1 << 16

_MOST_PLACES: Final = 11  # at which all texts are tried
_TEN: Final = bytes((DIGITS + ord("_")).tolist())
_QUICK_KINDS: Final = 2
_USUAL_KINDS: Final = 2
_NONE: Final = np.zeros((0, 1), np.uint8)
_FEWEST_PLACES: Final = 5  # for which a lattice is worth it, and exact in floating point
_BATCH: Final = 256
_TARGETS: Final = 1 << 12
_ROUNDS: Final = (64, 512, 2000, 10_000)  # guesses, each of 10 ** 9 texts; at 12 and 13 places these are all
_MOST_TEXTS: Final = 10**-7 * 2**64
_LESSONS: Final = 500


class Solver:
    """The keys of many sanitized texts.

    Args:
        texts: the sanitized texts, at most 256 bytes each.
        hashes: the hash of each, 8 bytes, the highest first.
        few_kinds: characters, and from how many to how many places keys of them alone are found in the first stage.
    """

    def __init__(self, texts: Sequence[bytes], hashes: bytes, few_kinds: FewKinds) -> None:
        groups: dict[bytes, int] = {}
        self._texts = texts
        self._few_kinds = few_kinds
        self._chunks = [
            _Chunk.of(texts[start : start + _CHUNK], hashes[8 * start : 8 * (start + _CHUNK)], groups)
            for start in range(0, len(texts), _CHUNK)
        ]
        self._identities = np.frombuffer(b"".join(groups), np.uint8).reshape(-1, _IDENTITY_BYTES)
        self._counts = np.unpackbits(self._identities[:, :_PLACE_BYTES], axis=1).sum(axis=1)
        sums = np.ascontiguousarray(self._identities[:, _PLACE_BYTES:]).view(">u8").ravel()
        self._sums = sums.astype(np.uint64)
        self.found = self._sums == 0
        widths = [chunk.texts.shape[1] for chunk in self._chunks]
        self._deltas = np.zeros((len(sums), max(widths, default=1)), np.uint8)
        every = [chunk.groups for chunk in self._chunks] or [np.zeros(0, np.intp)]
        self._firsts = np.unique(np.concatenate(every), return_index=True)[1]
        self._others: dict[int, Bytes] = {}
        self._incomplete: set[int] = set()
        self._tried = np.zeros(len(sums))
        self._fits: Counter[bytes] = Counter()

    def solve_easy(self) -> None:
        """Solve all texts of up to nine places, and those of the most usual kinds of characters."""
        for count in self._counts_of(np.flatnonzero(~self.found & (self._counts > 0))):
            if count < _FEWEST_PLACES:
                self._solve_kinds(count, [_TEN])
                continue
            alphabets = [letters for letters, fewest, most in self._few_kinds if fewest <= count <= most]
            if count > DIMENSIONS:
                self._solve_kinds(count, alphabets[:_USUAL_KINDS])
                continue
            self._solve_kinds(count, [letters for letters in alphabets if len(letters) == _QUICK_KINDS])
            self._solve_all(count)

    def _solve_rare_kinds(self) -> None:
        """Solve what ``solve_easy`` left of few kinds of characters."""
        for count in self._counts_of(np.flatnonzero(~self.found & (self._counts > DIMENSIONS))):
            alphabets = [letters for letters, fewest, most in self._few_kinds if fewest <= count <= most]
            self._solve_kinds(count, alphabets[_USUAL_KINDS:])

    def _solve_kinds(self, count: int, alphabets: list[bytes]) -> None:
        groups = np.flatnonzero(~self.found & (self._counts == count))
        for alphabet in sorted(alphabets, key=lambda letters: -self._fits[letters]):
            if len(groups):
                groups = self._solve_few_kinds(groups, alphabet, count)

    def solve_all(self) -> None:
        """Find all texts of five to eleven places, also where one was found."""
        self.found[:] = False
        for count in range(_FEWEST_PLACES, _MOST_PLACES + 1):
            self._solve_all(count)

    def rounds(self, lessons: Sequence[bytes], seconds: float | None) -> Iterator[NDArray[np.bool_]]:
        """Solve what ``solve_easy`` left, and yield after each round which groups it solved.

        Args:
            lessons: keys that those searched for may resemble, beside the keys found.
            seconds: how long after the beginning the rounds end, once few kinds of characters and all names of up to
                eleven places are solved; None for few kinds of characters alone.
        """
        deadline = None if seconds is None else monotonic() + seconds
        before = self.found.copy()
        for _ in self._rounds(lessons, deadline):
            yield self.found & ~before
            before = self.found.copy()

    def _rounds(self, lessons: Sequence[bytes], deadline: float | None) -> Iterator[None]:
        self._solve_rare_kinds()
        yield
        if deadline is None:
            return
        for count in range(DIMENSIONS + 1, _MOST_PLACES + 1):
            self._solve_all(count)
            yield
        hard = np.flatnonzero(~self.found & (self._counts > _MOST_PLACES))
        if not len(hard):
            return
        likelihoods = Likelihoods([*lessons[:: len(lessons) // _LESSONS + 1], *self.lessons()])
        for most in _ROUNDS:
            if most == _ROUNDS[-1]:
                hard = hard[self._counts[hard] == _MOST_PLACES + 2]
            for start in range(0, len(hard), _BATCH // 4):
                if monotonic() > deadline:
                    break
                self._solve_likely(hard[start : start + _BATCH // 4], likelihoods, most)
            yield
            hard = hard[~self.found[hard]]

    def _counts_of(self, groups: Integers) -> list[int]:
        counts: list[int] = np.unique(self._counts[groups]).tolist()
        return counts

    def lessons(self) -> list[bytes]:
        """Return some of the keys found, from which the likeliest characters can be learned."""
        solved = np.flatnonzero(self.found & (self._counts > 0))
        return [self._key_of(group) for group in solved[:: len(solved) // _LESSONS + 1].tolist()]

    def iter_keys(self, groups: NDArray[np.bool_] | None = None) -> Iterator[tuple[int, bytes, bool, int]]:
        """Iterate over the texts of all or some groups: row, key, whether it was found, a number for ``more`` or -1."""
        odd = np.full(len(self.found), -1)
        special = [*self._others, *self._incomplete]
        odd[special] = special
        start = 0
        for chunk in self._chunks:
            rows = np.arange(len(chunk.lengths)) if groups is None else np.flatnonzero(groups[chunk.groups])
            owners = chunk.groups[rows]
            keys = chunk.texts[rows] + self._deltas[owners, -chunk.texts.shape[1] :]
            fits = self.found[owners] & (_folded(keys) == chunk.hashes[rows])
            blob, width = keys.tobytes(), keys.shape[1]
            ends = np.arange(width, len(blob) + 1, width)
            begins = np.where(fits, ends - chunk.lengths[rows], ends)
            found = [blob[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
            yield from zip((rows + start).tolist(), found, fits.tolist(), odd[owners].tolist(), strict=True)
            start += len(chunk.lengths)

    def more(self, row: int, group: int) -> tuple[list[bytes], bool]:
        """Return the other keys found for a text, and whether the keys found are all but for carries."""
        text = self._texts[row]
        others = self._others.get(group, _NONE)
        keys = [self._with(text, deltas) for deltas in others]
        return keys, group not in self._incomplete

    def _key_of(self, group: int) -> bytes:
        return self._with(self._texts[self._firsts[group]], self._deltas[group])

    @staticmethod
    def _with(text: bytes, deltas: Bytes) -> bytes:
        return (np.frombuffer(text, np.uint8) + deltas[len(deltas) - len(text) :]).tobytes()

    def _places(self, groups: Integers, count: int) -> Integers:
        """Return the exponents of the places in doubt, ascending, of groups that have ``count`` of them."""
        return (
            np.unpackbits(self._identities[groups, : (self._deltas.shape[1] + 7) // 8], axis=1)
            .nonzero()[1]
            .reshape(-1, count)
        )

    def _record(self, group: int, exponents: Integers, digits: Integers) -> None:
        """Keep the solutions of a group, one row each; the exponents are those of the columns."""
        deltas = np.zeros((len(digits), self._deltas.shape[1]), np.uint8)
        deltas[:, -1 - exponents] = digits.astype(np.uint8)
        self._deltas[group] = deltas[0]
        self.found[group] = True
        if len(digits) > 1:
            self._others[group] = deltas[1:]

    def _solve_few_kinds(self, groups: Rows, alphabet: bytes, count: int) -> Rows:
        """Solve groups of ``count`` places in doubt if all characters there are of the alphabet; return the others."""
        block = max(1, _BLOCK_SUMS // len(alphabet) ** ((count + 1) // 2))
        for start in range(0, len(groups), block):
            some = groups[start : start + block]
            places = self._places(some, count)
            at, characters = met(alphabet, _POWERS[places], self._sums[some])
            at, first = np.unique(at, return_index=True)
            self._deltas[some[at, None], -1 - places[at]] = characters[first] - _UNDERSCORE
            self.found[some[at]] = True
            self._fits[alphabet] += len(at)
        unsolved: Rows = groups[~self.found[groups]]
        return unsolved

    def _solve_all(self, count: int) -> None:
        """Find all solutions of the groups with five to eleven places in doubt: nine by lattice, the others guessed."""
        groups = np.flatnonzero(~self.found & (self._counts == count))
        if not len(groups):
            return
        places = self._places(groups, count)
        guesses = all_guesses(count - DIMENSIONS)
        patterns, owners = np.unique(places[:, :DIMENSIONS] - places[:, :1], axis=0, return_inverse=True)
        order = np.argsort(owners, kind="stable")
        ends = np.cumsum(np.bincount(owners, minlength=len(patterns)))
        step = max(1, _TARGETS // len(guesses))
        for number, lattice in enumerate(_lattices(patterns)):
            mine = order[ends[number - 1] if number else 0 : ends[number]]
            for start in range(0, len(mine), step):
                some = mine[start : start + step]
                rests = self._sums[groups[some], None] - weighted(
                    guesses[None], _POWERS[places[some, None, DIMENSIONS:]]
                )
                rows, digits = lattice.solutions((rests * _INVERSES[places[some, :1]]).ravel())
                digits = np.concatenate([digits, guesses[rows % len(guesses)]], axis=1)
                owned = rows // len(guesses)
                for row in np.unique(owned).tolist():
                    self._record(int(groups[some[row]]), places[some[row]], digits[owned == row])

    def _solve_likely(self, groups: Integers, likelihoods: Likelihoods, most: int) -> None:
        """Try the likeliest texts of groups with more places in doubt."""
        texts = [self._texts[self._firsts[group]] for group in groups.tolist()]
        guesses = [Guesses(likelihoods.of(text), most) for text in texts]
        free = np.array(
            [[len(text) - 1 - place for place in guess.free] for text, guess in zip(texts, guesses, strict=True)]
        )
        lowest = free.min(axis=1, keepdims=True)
        for group, text, guess, lattice, exponents in zip(
            groups.tolist(), texts, guesses, _lattices(free - lowest), free, strict=True
        ):
            guessed = len(text) - 1 - np.array(guess.guessed)
            rests = self._sums[group] - weighted(guess.digits, _POWERS[guessed])
            rows, digits = lattice.solutions(rests * _INVERSES[exponents.min()])
            self._tried[group] += float(len(rests)) * len(DIGITS) ** DIMENSIONS
            if not len(rows):
                continue
            exponents, digits = np.append(exponents, guessed), np.concatenate([digits, guess.digits[rows]], axis=1)
            self._record(group, exponents, digits)
            # Sums that are equal without the modulus differ by carries only.
            powers = [33**exponent for exponent in exponents.tolist()]
            sums = {sum(map(mul, row, powers)) for row in digits.tolist()}
            all_tried = len(guess.digits) == len(DIGITS) ** len(guessed)
            if not all_tried and (len(sums) > 1 or self._tried[group] > _MOST_TEXTS):
                self._incomplete.add(group)
            likelihoods.learn(self._key_of(group))


def _lattices(patterns: Integers) -> Iterator[Lattice]:
    """Make the lattices of patterns of exponents, a batch at a time."""
    for start in range(0, len(patterns), _BATCH):
        yield from lattices_of(patterns[start : start + _BATCH].tolist())


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some texts as arrays.

    Attributes:
        texts: the texts, aligned to the right.
        hashes: the hashes less the share of djb2's start, so that ``_folded`` of the key's bytes equals its hash.
        groups: the number of each text's group.
    """

    texts: Bytes
    lengths: Rows
    hashes: Words
    groups: Rows

    @classmethod
    def of(cls, texts: Sequence[bytes], hashes: bytes, groups: dict[bytes, int]) -> _Chunk:
        """Lay out the texts and number the groups not seen before."""
        lengths = np.array([len(text) for text in texts])
        width = max(1, int(lengths.max()))
        matrix = np.frombuffer(b"".join([text.rjust(width, b"\0") for text in texts]), np.uint8).reshape(-1, width)
        shares = np.frombuffer(hashes, ">u8").astype(np.uint64) - _START * _POWERS[lengths]
        places = np.packbits(matrix[:, ::-1] == _UNDERSCORE, axis=1)
        identities = np.zeros((len(texts), _IDENTITY_BYTES), np.uint8)
        identities[:, : places.shape[1]] = places
        identities[:, _PLACE_BYTES:] = (shares - _folded(matrix)).astype(">u8").view(np.uint8).reshape(-1, 8)
        names = identities.view(f"V{_IDENTITY_BYTES}").ravel().tolist()
        return cls(matrix, lengths, shares, np.array([groups.setdefault(name, len(groups)) for name in names]))


def _folded(texts: Bytes) -> Words:
    """Return djb2 of each row without its start: the sum of byte * 33 ** (bytes after it)."""
    sums = np.zeros(len(texts), np.uint64)
    for column in np.ascontiguousarray(texts.T):
        sums *= np.uint64(33)
        sums += column
    return sums
