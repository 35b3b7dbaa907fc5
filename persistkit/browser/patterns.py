"""Which texts of a joined block match a search: substrings and globs, many texts at once in NumPy."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Pattern", "glob_pattern", "substring_pattern"]

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ANY: Final = frozenset(range(1, 128))


@dataclass(frozen=True, slots=True)
class Pattern:
    """Runs of allowed bytes, any text between them.

    Attributes:
        runs: each a tuple of the bytes allowed at each place, in order.
        at_start: the first run must begin the text.
        at_end: the last run must end the text.
        expression: the same pattern for one text, used where a place is a character of several bytes.
    """

    runs: tuple[tuple[frozenset[int], ...], ...]
    at_start: bool
    at_end: bool
    expression: re.Pattern[str] | None = None

    def matches(self, block: Bytes, starts: Positions) -> Mask:
        """Tell for each text of ``block`` whether it matches.

        Args:
            block: the UTF-8 texts, each followed by a NUL.
            starts: where each text begins, and the end of the block.
        """
        if self.expression is not None and block.size and int(block.max()) > 127:
            return self._one_by_one(block, starts)
        begin, end = starts[:-1], starts[1:] - 1
        alive = np.ones(begin.size, dtype=np.bool_)
        reached = begin.copy()
        runs = list(self.runs)
        if self.at_end and runs and not (self.at_start and len(runs) == 1):
            last = runs.pop()
            tail = end - len(last)
            alive &= _at(block, tail, last, tail >= begin)
            end = np.where(alive, tail, end)
        for number, run in enumerate(runs):
            if number == 0 and self.at_start:
                alive &= _at(block, begin, run, begin + len(run) <= end)
                if self.at_end and len(self.runs) == 1:
                    alive &= begin + len(run) == end
            else:
                found = np.append(_occurrences(block, run), block.size)
                reached = np.where(alive, found[np.searchsorted(found, reached)], block.size)
                alive &= reached + len(run) <= end
            reached = np.where(alive, (begin if number == 0 and self.at_start else reached) + len(run), 0)
        return alive & (reached <= end)

    def _one_by_one(self, block: Bytes, starts: Positions) -> Mask:
        fits = self.expression.match if self.expression is not None else re.compile("").match
        texts = block.tobytes().decode("utf-8", "surrogateescape").split("\0")[: starts.size - 1]
        return np.fromiter((fits(text) is not None for text in texts), dtype=np.bool_, count=len(texts))


def substring_pattern(text: str) -> Pattern:
    """Return the pattern of texts that contain ``text``, taken literally."""
    run = tuple(frozenset({byte}) for byte in text.encode("utf-8", "surrogateescape"))
    return Pattern((run,) if run else (), at_start=False, at_end=False)


def glob_pattern(text: str) -> Pattern:
    """Return the pattern of whole texts that fit a glob: ``*`` any text, ``?`` one character, ``[a-z]`` one of a set.

    A ``[`` without its ``]`` is taken literally; ``[!a]`` is any other character. No input makes it slow: runs are
    placed one after the other, each at its first fit, and never taken back.
    """
    runs: list[list[frozenset[int]]] = [[]]
    several_bytes = False
    index = 0
    while index < len(text):
        character = text[index]
        index += 1
        if character == "*":
            runs.append([])
            continue
        if character == "?":
            several_bytes = True
            runs[-1].append(_ANY)
            continue
        closing = _closing_bracket(text, index) if character == "[" else -1
        if closing < 0:
            runs[-1].extend(frozenset({byte}) for byte in character.encode("utf-8", "surrogateescape"))
            continue
        several_bytes = True
        one = re.compile(fnmatch.translate(text[index - 1 : closing + 1]))
        runs[-1].append(frozenset(byte for byte in _ANY if one.match(chr(byte))))
        index = closing + 1
    return Pattern(
        tuple(tuple(run) for run in runs if run or len(runs) == 1),
        at_start=bool(runs[0]) or len(runs) == 1,
        at_end=bool(runs[-1]) or len(runs) == 1,
        expression=re.compile(fnmatch.translate(text)) if several_bytes else None,
    )


def _closing_bracket(text: str, index: int) -> int:
    """Return where the set that was opened before ``index`` ends, or -1: ``]`` may be its first member."""
    if text[index : index + 1] == "!":
        index += 1
    return text.find("]", index + 1)


def _at(block: Bytes, where: Positions, run: tuple[frozenset[int], ...], allowed: Mask) -> Mask:
    """Tell for each place whether ``run`` stands there; places that are not allowed are never read."""
    fits = allowed.copy()
    rows = np.flatnonzero(fits)
    for offset, choices in enumerate(run):
        rows = rows[_among(block[where[rows] + offset], choices)]
    fits[:] = False
    fits[rows] = True
    return fits


def _occurrences(block: Bytes, run: tuple[frozenset[int], ...]) -> Positions:
    """Return every place of the block where ``run`` stands, ascending: the rarest byte is looked for first."""
    places = block.size - len(run) + 1
    if places <= 0:
        return np.empty(0, dtype=np.int64)
    frequency = np.bincount(block[:65536], minlength=256)
    order = sorted(range(len(run)), key=lambda offset: int(sum(frequency[list(run[offset])])))
    found = np.flatnonzero(_among(block[order[0] : order[0] + places], run[order[0]]))
    for offset in order[1:]:
        found = found[_among(block[found + offset], run[offset])]
    return found


def _among(data: Bytes, choices: frozenset[int]) -> Mask:
    if len(choices) == 1:
        same: Mask = data == next(iter(choices))
        return same
    table = np.zeros(256, dtype=np.bool_)
    table[list(choices)] = True
    return table[data]
