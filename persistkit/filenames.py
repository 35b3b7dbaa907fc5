r"""Filenames: from a key to its filename, and from a filename back to its key.

The rule is that of ``FilePersistenceBackend`` in the Rust crate llm-agent-runtime 1.74.0: ``<sanitized>-<hash>.bin``,
where each of ``/ \ : * ? " < > |`` becomes ``_`` and the hash is djb2 (D. J. Bernstein, comp.lang.c, 1991) of the
key's UTF-8 bytes in 64 bits, as 16 hex digits. Names of 252 bytes and more, which the reference cannot store, are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Final

__all__ = [
    "Reading",
    "alternatives",
    "claim_name_for",
    "djb2",
    "filename_for",
    "is_filename",
    "keys_for",
    "needs_claim",
    "place_for",
]

# So that a directory of names with astronomically many keys each is listed in bounded memory.
MAX_ALTERNATIVES: Final = 64

_MASK: Final = (1 << 64) - 1
SPECIALS: Final = b'/\\:*?"<>|'
UNKNOWNS: Final = bytes(sorted(SPECIALS + b"_"))
_RUNS: Final = re.compile(rb'[_/\\:*?"<>|]{2,}')
_SANITIZED: Final = bytes(ord("_") if byte in SPECIALS else byte for byte in range(256))
_NOT_SPECIALS: Final = bytes(byte for byte in range(256) if byte not in SPECIALS)
SUFFIX_BYTES: Final = len("-0123456789abcdef.bin")
_MAX_NAME_BYTES: Final = 255
MAX_UNCUT_BYTES: Final = 251
# No special characters: they would have become "_". No surrogates: the name is not UTF-8, so no key's.
_SHAPE: Final = re.compile(r'[^/\\:*?"<>|\0\ud800-\udfff]*-[0-9a-f]{16}\.bin')

# How many unknown characters `keys_for` always solves, whatever else is listed; beyond, a key needs a claim.
ANY_CHARACTERS: Final = 8
ONE_SPECIAL: Final = 24
TWO_SPECIALS: Final = 12

# A byte is 33 * quotient + remainder, so djb2 is two numbers written in base 33, which int() reads at C speed.
_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuvw"
_QUOTIENTS: Final = bytes(_DIGITS[byte // 33] for byte in range(256))
_REMAINDERS: Final = bytes(_DIGITS[byte % 33] for byte in range(256))
_BLOCK_BYTES: Final = 1024
_START: Final = 5381
STARTS: Final = [_START * pow(33, length, 1 << 64) & _MASK for length in range(_BLOCK_BYTES + 1)]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one filename says about its key.

    Attributes:
        filename: the filename that was read.
        keys: the keys that have this filename, sorted by their UTF-8 bytes; several when they collide.
        complete: the search found the keys; False when nothing fits within its bounds, or when the name is cut or
            not of the shape of ours, and ``keys`` is empty then; also False when there are more than 64.
    """

    filename: str
    keys: tuple[str, ...]
    complete: bool


def djb2(key: str) -> int:
    """Return the 64-bit djb2 hash of the UTF-8 bytes of ``key``.

    Example:
        >>> djb2("a/b")
        193484279
    """
    data = key.encode()
    if len(data) <= _BLOCK_BYTES:
        return _hash(data)
    state = _START
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        state = ((state - _START) * pow(33, len(block), 1 << 64) + _hash(block)) & _MASK
    return state


def filename_for(key: str) -> str:
    """Return the filename of ``key``, at most 255 bytes.

    Example:
        >>> filename_for("session:1/step:2")
        'session_1_step_2-e714ac94615d5a8b.bin'
    """
    data = key.encode()
    text = data.translate(_SANITIZED)
    if len(text) + SUFFIX_BYTES > MAX_UNCUT_BYTES:
        head = text[: _MAX_NAME_BYTES - SUFFIX_BYTES].decode(errors="ignore")
        return f"{head}-{djb2(key):016x}.bin"
    return f"{text.decode()}-{_hash(data):016x}.bin"


def claim_name_for(filename: str) -> str:
    """Return the name of the companion that tells which key holds ``filename``."""
    return filename.removesuffix(".bin") + ".key"


def is_filename(name: str) -> bool:
    """Tell whether ``name`` has the shape of a value's filename."""
    return name.endswith(".bin") and _SHAPE.fullmatch(name) is not None


def alternatives(key: str) -> tuple[str, ...]:
    """Return the other keys with the same sanitized text and the same hash, sorted by their UTF-8 bytes.

    Exact, save for accidents of the 64-bit arithmetic; linear in the key and in what is returned: the first 64
    when there are more. Hashes can be equal only inside a run of neighbouring special characters: a difference of
    two characters is at most 90, and 90 * (1 + 1/33 + ...) < 33 ** 2, so nothing two places lower cancels it.

    Example:
        >>> alternatives("a?>")
        ('a>_',)
    """
    data = key.encode()
    if _class_size(data) == 1:
        return ()
    same = islice(_class_of(data), MAX_ALTERNATIVES + 1)
    return tuple(other.decode() for other in same if other != data)[:MAX_ALTERNATIVES]


def needs_claim(key: str) -> bool:
    """Tell whether the filename of ``key`` does not give it back for certain, so that a companion must name it.

    True when another key shares the filename, when the filename is cut, or when the key is beyond what ``keys_for``
    always solves: more than 8 special characters and underscores, unless they are underscores alone, one special
    alone, underscores and one special (up to 24), or two specials with or without underscores (up to 12).
    """
    return place_for(key)[1]


def place_for(key: str) -> tuple[str, bool]:
    """Return the filename of ``key`` and whether it needs a claim: what each operation on a file asks first."""
    data = key.encode()
    text = data.translate(_SANITIZED)
    if len(text) + SUFFIX_BYTES > MAX_UNCUT_BYTES:
        return filename_for(key), True
    return f"{text.decode()}-{_hash(data):016x}.bin", _is_hard(data, text)


def _is_hard(data: bytes, text: bytes) -> bool:
    if b"__" in text and _class_size(data) > 1:
        return True
    unknowns = text.count(b"_")
    if unknowns <= ANY_CHARACTERS:
        return False
    kinds = len(set(data.translate(None, _NOT_SPECIALS)))
    if kinds == 0 or (kinds == 1 and b"_" not in data):
        return False
    return unknowns > (ONE_SPECIAL if kinds == 1 else TWO_SPECIALS if kinds == 2 else ANY_CHARACTERS)


def keys_for(filenames: Iterable[str], *, thorough: bool = True) -> list[Reading]:
    """Return what each filename says about its key, in the order given.

    Linear in the number of names; bounded, by count and never by the clock, for names that nothing fits. A key for
    which ``needs_claim`` is False is always found, whatever else is listed; harder ones as far as a common budget
    goes, in an order that does not depend on the order of the names; not at all unless ``thorough``.
    """
    from persistkit.recovery import recover

    return recover(list(filenames), thorough=thorough)


def same_filename(key: bytes) -> tuple[bytes, ...]:
    """Return all keys that share the filename of ``key``, itself among them, sorted; at most 65."""
    return (key,) if _class_size(key) == 1 else tuple(islice(_class_of(key), MAX_ALTERNATIVES + 1))


def _hash(data: bytes) -> int:
    if not data:
        return _START
    high = int(data.translate(_QUOTIENTS), 33)
    low = int(data.translate(_REMAINDERS), 33)
    return (STARTS[len(data)] + 33 * high + low) & _MASK


def _class_size(data: bytes) -> int:
    """Return how many keys share text and hash with ``data``: the product over its runs of unknown characters."""
    return prod(map(_run_size, _RUNS.findall(data)))


@lru_cache(maxsize=1024)
def _run_size(run: bytes) -> int:
    ways = {0: 1}
    for byte in reversed(run):
        ways = _extended(byte, ways)
    return ways[0]


def _extended(byte: int, ways: dict[int, int]) -> dict[int, int]:
    """Return the ways to reach each carry, one character further to the left."""
    longer: dict[int, int] = {}
    for carry, count in ways.items():
        for other in UNKNOWNS:
            carried, rest = divmod(other - byte + carry, 33)
            if rest == 0:
                longer[carried] = longer.get(carried, 0) + count
    return longer


def _class_of(data: bytes) -> Iterator[bytes]:
    """Iterate, sorted, over all keys that share text and hash with ``data``.

    From the first byte to the last: ``carry`` is what the bytes to the right must hand up, and ``reachable`` says
    what they can, so that every branch taken ends in a key.
    """
    reachable: list[dict[int, int]] = [{0: 1}] * (len(data) + 1)
    for index in range(len(data) - 1, -1, -1):
        reachable[index] = _extended(data[index], reachable[index + 1]) if data[index] in UNKNOWNS else {0: 1}
    waiting = [(b"", 0)]
    while waiting:
        head, carry = waiting.pop()
        index = len(head)
        while index < len(data) and data[index] not in UNKNOWNS:
            index += 1
        head = data[:0] + head + data[len(head) : index]
        if index == len(data):
            yield head
            continue
        for other in reversed(UNKNOWNS):
            below = 33 * carry - (other - data[index])
            if below in reachable[index + 1]:
                waiting.append((head + bytes([other]), below))
