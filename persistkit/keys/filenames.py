r"""Filenames: from a key to its filename, and from filenames back to their keys.

The rule is that of ``FilePersistenceBackend`` in the Rust crate llm-agent-runtime 1.74.0: ``<sanitized>-<hash>.bin``.
In the sanitized text each of ``/ \ : * ? " < > |`` is a ``_``; the hash is djb2 (D. J. Bernstein, comp.lang.c, 1991) of
the key's UTF-8 bytes in 64 bits, as 16 hex digits. Names of 252 bytes and more, which the reference cannot store, get
their text cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, islice, product
from typing import Final, NamedTuple

__all__ = [
    "MAX_ALTERNATIVES",
    "KeyCandidates",
    "alternatives",
    "owner_filename_for",
    "djb2",
    "filename_for",
    "has_alternatives",
    "is_owner_filename",
    "is_filename",
    "candidates_of",
    "needs_owner_file",
    "place_for",
    "iter_candidates",
]


def __dir__() -> list[str]:
    return __all__


MAX_ALTERNATIVES: Final = 64

_MASK: Final = (1 << 64) - 1
_START: Final = 5381
_UNDERSCORE: Final = ord("_")
_SPECIALS: Final = b'"*/:<>?\\|'
_UNKNOWNS: Final = bytes(sorted(_SPECIALS + b"_"))
_SANITIZED: Final = bytes(_UNDERSCORE if byte in _SPECIALS else byte for byte in range(256))
_KNOWNS: Final = bytes(byte for byte in range(256) if byte not in _UNKNOWNS)

_SUFFIX_BYTES: Final = len("-0123456789abcdef.bin")
_MAX_NAME_BYTES: Final = 255
_MAX_TEXT_BYTES: Final = _MAX_NAME_BYTES - _SUFFIX_BYTES
_MAX_UNCUT_BYTES: Final = 251 - _SUFFIX_BYTES
# No sanitized text holds a special character, NUL or half a surrogate pair.
_STEM: Final = r'[^/\\:*?"<>|\0\ud800-\udfff]*-[0-9a-f]{16}'
_FILENAME: Final = re.compile(_STEM + r"\.bin")
_OWNER_FILENAME: Final = re.compile(_STEM + r"\.key")
_NAME_OF_NO_KEY: Final = "-0000000000000000.bin"

# A byte is 33 * quotient + remainder, so djb2 is two numbers written in base 33, which int() reads at C speed. Blocks,
# because int() takes quadratic time.
_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuvw"
_QUOTIENTS: Final = bytes(_DIGITS[byte // 33] for byte in range(256))
_REMAINDERS: Final = bytes(_DIGITS[byte % 33] for byte in range(256))
_BLOCK_BYTES: Final = 256
_POWERS: Final = [pow(33, exponent, 1 << 64) for exponent in range(_BLOCK_BYTES + 1)]

_RUN: Final = re.compile(b"[" + re.escape(_UNKNOWNS) + b"]{2,}")
# What a byte that becomes another one hands up to the byte before it, by what it was handed from the one after it.
_CARRIES: Final = {
    (byte, below): {(other - byte + below) // 33 for other in _UNKNOWNS if (other - byte + below) % 33 == 0}
    for byte in _UNKNOWNS
    for below in range(-2, 3)
}
_CHANGES: Final = {byte: _CARRIES[byte, 0] - {0} for byte in _UNKNOWNS}

# By how many kinds of characters a key has at its unknown places: up to how many such places it is always recovered
# (what `needs_owner_file` goes by; a hopeless name costs 0.2 to 0.6 ms with these), and up to how many within the budget.
_ALWAYS: Final = {1: _MAX_UNCUT_BYTES, 2: 22, 3: 12, 10: 8}
_AT_MOST: Final = {1: _MAX_UNCUT_BYTES, 2: 34, 3: 22, 10: 12}
_ALPHABETS: Final = [
    (alphabet, _ALWAYS[len(alphabet)], _AT_MOST[len(alphabet)])
    for alphabet in (
        *(bytes([special]) for special in _SPECIALS),
        *(bytes([_UNDERSCORE, special]) for special in _SPECIALS),
        *(bytes([_UNDERSCORE, *pair]) for pair in combinations(_SPECIALS, 2)),
        _UNKNOWNS,
    )
]
_CERTAIN: Final = [(alphabet, always, always) for alphabet, always, _ in _ALPHABETS]


class KeyCandidates(NamedTuple):
    """What one filename says about its key.

    Attributes:
        filename: the filename that was read.
        keys: keys that have this filename, sorted by their UTF-8 bytes: none when the name is not of our shape, is cut
            or was not solved, several when keys collide.
        complete: a key was found, and ``keys`` holds it and all its ``alternatives``: none is missing but for accidents
            of the 64-bit arithmetic. False when ``keys`` is empty, and when it holds the first 64 of more than 64.

    Example:
        >>> candidates_of(["a__-000000000b8857e3.bin"])
        [KeyCandidates(filename='a__-000000000b8857e3.bin', keys=('a>_', 'a?>'), complete=True)]
    """

    filename: str
    keys: tuple[str, ...]
    complete: bool


def djb2(key: str) -> int:
    """Return the 64-bit djb2 hash of the UTF-8 bytes of ``key``.

    Raises:
        UnicodeEncodeError: ``key`` holds a lone surrogate.

    Example:
        >>> djb2("a/b")
        193484279
    """
    return _hash(key.encode())


def filename_for(key: str) -> str:
    """Return the filename of ``key``, at most 255 bytes.

    The text of a name that would have 252 bytes or more is cut to at most 234 bytes, between two characters.

    Raises:
        UnicodeEncodeError: ``key`` holds a lone surrogate.

    Example:
        >>> filename_for("session:1/step:2")
        'session_1_step_2-e714ac94615d5a8b.bin'
    """
    text = key.encode().translate(_SANITIZED)
    if len(text) > _MAX_UNCUT_BYTES:
        return f"{text[:_MAX_TEXT_BYTES].decode(errors='ignore')}-{djb2(key):016x}.bin"
    return f"{text.decode()}-{djb2(key):016x}.bin"


def owner_filename_for(filename: str) -> str:
    """Return the name of the companion that says which key holds ``filename``.

    Example:
        >>> owner_filename_for("a__-000000000b8857e3.bin")
        'a__-000000000b8857e3.key'
    """
    return filename.removesuffix(".bin") + ".key"


def is_filename(name: str) -> bool:
    """Tell whether ``name`` has the shape of a value's filename: ``<text>-<16 hex digits>.bin``, at most 255 bytes.

    Example:
        >>> is_filename("a_b-000000000b8855f7.bin"), is_filename("notes.bin")
        (True, False)
    """
    return _FILENAME.fullmatch(name) is not None and len(name.encode()) <= _MAX_NAME_BYTES


def is_owner_filename(name: str) -> bool:
    """Tell whether ``name`` has the shape of a companion's name: ``<text>-<16 hex digits>.key``, at most 255 bytes.

    Example:
        >>> is_owner_filename("a__-000000000b8857e3.key"), is_owner_filename("a__-000000000b8857e3.bin")
        (True, False)
    """
    return _OWNER_FILENAME.fullmatch(name) is not None and len(name.encode()) <= _MAX_NAME_BYTES


def has_alternatives(key: str) -> bool:
    """Tell whether ``alternatives`` of ``key`` is not empty, in time linear in the key.

    Example:
        >>> has_alternatives("a?>"), has_alternatives("a/b")
        (True, False)
    """
    return _collides(key.encode())


def alternatives(key: str) -> tuple[str, ...]:
    """Return the other keys with the same sanitized text and the same hash, sorted by their UTF-8 bytes.

    Exact, save for accidents of the 64-bit arithmetic, in time linear in the key; the first 64 when there are more, for
    their number can grow exponentially with the key. Hashes agree only inside runs of neighbouring special characters:
    two characters differ by at most 90, and 90 * (1 + 1/33 + ...) < 33 ** 2, so nothing two places lower cancels it.
    Where the filename is cut, keys that differ in what was cut off can share it too; those are not given.

    Example:
        >>> alternatives("a?>")
        ('a>_',)
    """
    data = key.encode()
    others = (other for other in _sharing(data) if other != data)
    return tuple(other.decode() for other in islice(others, MAX_ALTERNATIVES))


def needs_owner_file(key: str) -> bool:
    """Tell whether the filename of ``key`` alone does not surely give it back, so that a companion must name it.

    True when the key has alternatives, when its filename has 252 bytes or more, and when it has more than 8 special
    characters and underscores, except for underscores alone, or one special character throughout, in any number; for
    underscores and one special character up to 22; for two special characters, with or without underscores, up to 12.

    Where it is False, ``candidates_of`` gives exactly ``key`` for its filename, complete, whatever else is listed: save for
    accidents of the 64-bit arithmetic, which chance brings less often than once in 10 ** 10 keys, but malice can.

    Example:
        >>> needs_owner_file("session:7f3c:step:12"), needs_owner_file("<|im_start|>"), needs_owner_file("k" * 300)
        (False, True, True)
    """
    return place_for(key)[1]


def place_for(key: str) -> tuple[str, bool]:
    """Return the filename of ``key`` and whether it needs a claim: what each operation on a file asks first.

    Example:
        >>> place_for("a?>")
        ('a__-000000000b8857e3.bin', True)
    """
    data = key.encode()
    if len(data) > _MAX_UNCUT_BYTES:
        return filename_for(key), True
    text = data.translate(_SANITIZED).decode()
    return f"{text}-{_hash(data):016x}.bin", _is_hard(data, text)


def _hash(data: bytes) -> int:
    if 0 < len(data) <= _BLOCK_BYTES:
        return _hash_on(_START, data)
    state = _START
    for start in range(0, len(data), _BLOCK_BYTES):
        state = _hash_on(state, data[start : start + _BLOCK_BYTES])
    return state


def _hash_on(state: int, block: bytes) -> int:
    high, low = int(block.translate(_QUOTIENTS), 33), int(block.translate(_REMAINDERS), 33)
    return (state * _POWERS[len(block)] + 33 * high + low) & _MASK


def _is_hard(data: bytes, text: str) -> bool:
    if "__" in text and _collides(data):
        return True
    unknowns = text.count("_")
    if unknowns <= _ALWAYS[len(_UNKNOWNS)]:
        return False
    kinds = set(data.translate(None, _KNOWNS))
    if len(kinds) == 1:
        return False
    return unknowns > _ALWAYS.get(len(kinds | {_UNDERSCORE}), 0)


def candidates_of(filenames: Iterable[str], *, thorough: bool = True) -> list[KeyCandidates]:
    """Return what each filename says about its key, in the order given.

    Every key for which ``needs_owner_file`` is False is found, whatever else is listed. Harder keys are found as long as a
    common budget lasts (not at all unless ``thorough``), counted in steps, never in time; the order of ``filenames``
    changes no reading. Time and memory are linear in their number. Any text is taken, surrogates from undecodable
    names included.

    Example:
        >>> [reading.keys for reading in candidates_of(["a_b-000000000b8855f7.bin", "notes.txt"])]
        [('a/b',), ()]
    """
    return list(iter_candidates(filenames, thorough=thorough))


def iter_candidates(filenames: Iterable[str], *, thorough: bool = True) -> Iterator[KeyCandidates]:
    """Iterate over what ``candidates_of`` returns, for the many ``filenames`` of a listing: made one by one, kept by nobody.

    ``thorough`` as for ``candidates_of``.

    Example:
        >>> next(iter_candidates(["a_b-000000000b8855f7.bin"])).keys
        ('a/b',)
    """
    from persistkit.keys.recovery import recovered

    names = list(filenames)
    readable = [name if _FILENAME.fullmatch(name) else _NAME_OF_NO_KEY for name in names]
    texts = [name[:-_SUFFIX_BYTES].encode() for name in readable]
    for row, text in enumerate(texts):
        if len(text) > _MAX_UNCUT_BYTES:
            readable[row], texts[row] = _NAME_OF_NO_KEY, b""
    hashes = bytes.fromhex("".join([name[1 - _SUFFIX_BYTES : -4] for name in readable]))
    return map(_reading, names, recovered(texts, hashes, _ALPHABETS if thorough else _CERTAIN))


def _reading(filename: str, key: bytes | None) -> KeyCandidates:
    if key is None:
        return KeyCandidates(filename, (), False)
    if "__" not in filename or not _collides(key):
        return KeyCandidates(filename, (key.decode(),), True)
    keys = [same.decode() for same in islice(_sharing(key), MAX_ALTERNATIVES + 1)]
    return KeyCandidates(filename, tuple(keys[:MAX_ALTERNATIVES]), len(keys) <= MAX_ALTERNATIVES)


def _collides(data: bytes) -> bool:
    return any(map(_varies, _RUN.findall(data)))


def _varies(run: bytes) -> bool:
    """Tell whether another run hashes like ``run``: whether what a changed byte hands up comes to rest further left."""
    carries: set[int] = set()
    for byte in reversed(run):
        handed_up = {carry for below in carries for carry in _CARRIES[byte, below]}
        if 0 in handed_up:
            return True
        carries = handed_up | _CHANGES[byte]
    return False


def _variants(run: bytes) -> Iterator[bytes]:
    """Iterate, sorted, over all runs of special characters that hash like ``run``, itself among them."""
    reachable = [{0}]
    for byte in reversed(run):
        reachable.append({carry for below in reachable[-1] for carry in _CARRIES[byte, below]})
    head = bytearray()
    waiting = [(0, b"", 0)]
    while waiting:
        size, letter, carry = waiting.pop()
        head[size:] = letter
        if len(head) == len(run):
            yield bytes(head)
            continue
        # Only what the bytes after this one can hand up, so that every branch ends in a variant.
        handed_up = reachable[len(run) - len(head) - 1]
        for other in reversed(_UNKNOWNS):
            below = 33 * carry - (other - run[len(head)])
            if below in handed_up:
                waiting.append((len(head), bytes([other]), below))


def _sharing(data: bytes) -> Iterator[bytes]:
    """Iterate, sorted, over the first keys that have the text and the hash of ``data``, at least 65 if there are."""
    pieces: list[Sequence[bytes]] = []
    end = 0
    for run in _RUN.finditer(data):
        pieces += [data[end : run.start()]], list(islice(_variants(run[0]), MAX_ALTERNATIVES + 1))
        end = run.end()
    return map(b"".join, product(*pieces, [data[end:]]))
