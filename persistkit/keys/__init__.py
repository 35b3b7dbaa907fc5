r"""Keys and filenames: from a key to its filename, and from filenames back to their keys.

The rule is that of ``FilePersistenceBackend`` in the Rust crate llm-agent-runtime 1.74.0: ``<sanitized>-<hash>.bin``.
In the sanitized text each of ``/ \ : * ? " < > |`` is a ``_``; the hash is djb2 (D. J. Bernstein, comp.lang.c, 1991) of
the key's UTF-8 bytes in 64 bits, as 16 hex digits. Names of 252 bytes and more, which the reference cannot store, get
their text cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import islice, product
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from persistkit.keys.solver import Solver

__all__ = [
    "KeyCandidates",
    "alternatives",
    "candidates_as_found",
    "candidates_of",
    "filename_for",
    "is_filename",
    "is_owner_filename",
    "needs_owner_file",
    "owner_filename_for",
    "place_for",
]

_MAX_ALTERNATIVES: Final = 64
_MASK: Final = (1 << 64) - 1
_START: Final = 5381
_UNDERSCORE: Final = ord("_")
_SPECIALS: Final = b'"*/:<>?\\|'
_UNKNOWNS: Final = bytes(sorted(_SPECIALS + b"_"))
_SANITIZED: Final = bytes.maketrans(_SPECIALS, b"_" * len(_SPECIALS))

_SUFFIX_BYTES: Final = len("-0123456789abcdef.bin")
_MAX_NAME_BYTES: Final = 255
_MAX_TEXT_BYTES: Final = _MAX_NAME_BYTES - _SUFFIX_BYTES
_CUT_NAME_BYTES: Final = 252
_MAX_UNCUT_BYTES: Final = _CUT_NAME_BYTES - _SUFFIX_BYTES - 1
# No sanitized text holds a special character, NUL or half a surrogate pair.
_FILENAME: Final = re.compile(r'[^/\\:*?"<>|\0\ud800-\udfff]*-[0-9a-f]{16}\.bin')

# A byte is 33 * quotient + remainder, so djb2 is two numbers written in base 33, which int() reads at C speed. Blocks,
# because int() takes quadratic time.
_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuvw"
_QUOTIENTS: Final = bytes(_DIGITS[byte // 33] for byte in range(256))
_REMAINDERS: Final = bytes(_DIGITS[byte % 33] for byte in range(256))
_BLOCK_BYTES: Final = 256
_POWERS: Final = [pow(33, exponent, 1 << 64) for exponent in range(_BLOCK_BYTES + 1)]

_RUN: Final = re.compile(b"([" + re.escape(_UNKNOWNS) + b"]{2,})")

# Up to how many places in doubt no two texts share a name but by carries (found by trying all, for all places in 230
# bytes); up to how many a key is read for certain and shares its name only if `_is_shared`; and all texts are tried.
_UNSHARED_PLACES: Final = 5
_CERTAIN_PLACES: Final = 9
_COMPLETE_PLACES: Final = 11
# Keys of few kinds of characters are read for certain at more places, from the first number to the second, the most
# usual ones first. A name that no key fits costs a millisecond. One kind at fewer places is a case of two.
_FEW_KINDS: Final = [
    (b"_/", 1, 34),
    (b"_/:", 1, 18),
    *((bytes([_UNDERSCORE, special]), 1, 26) for special in _SPECIALS if special != ord("/")),
    *((bytes([byte]), 27, _MAX_UNCUT_BYTES) for byte in _UNKNOWNS),
    (b"_\\:", 1, 18),
    (b'_":', 1, 16),
    (b"_/:?", 1, 16),
]
_REMEMBERED: Final = 1 << 12
_FIRST_NAMES: Final = 1000
_MORE_NAMES: Final = 1 << 17


class KeyCandidates(NamedTuple):
    """What one filename says about its key.

    Attributes:
        filename: the filename that was read.
        keys: keys that have this filename, sorted by their UTF-8 bytes: none when the name is not of our shape, is cut
            or was not solved, several when keys share it. More than 64 are cut to the first 64.
        complete: the key is among ``keys``: with a probability of more than 1 - 10 ** -7 of any other, and for certain
            where ``needs_owner_file`` is False, save for keys that somebody made up to agree modulo 2 ** 64. False
            when ``keys`` is empty, was cut, or holds only the likeliest.

    Example:
        >>> candidates_of(["a__-000000000b8857e3.bin"])
        [KeyCandidates(filename='a__-000000000b8857e3.bin', keys=('a>_', 'a?>'), complete=True)]
    """

    filename: str
    keys: tuple[str, ...]
    complete: bool


def filename_for(key: str) -> str:
    """Return the filename of ``key``, at most 255 bytes.

    The text of a name that would have 252 bytes or more is cut to at most 234 bytes, between two characters.

    Raises:
        UnicodeEncodeError: ``key`` holds a lone surrogate.

    Example:
        >>> filename_for("session:1/step:2")
        'session_1_step_2-e714ac94615d5a8b.bin'
    """
    data = key.encode()
    text = data.translate(_SANITIZED)
    if len(text) > _MAX_UNCUT_BYTES:
        text = text[:_MAX_TEXT_BYTES]
    return f"{text.decode(errors='ignore')}-{_hash(data):016x}.bin"


def owner_filename_for(filename: str) -> str:
    """Return the name of the owner file, which says which key ``filename`` belongs to."""
    return filename.removesuffix(".bin") + ".key"


def is_filename(name: str) -> bool:
    """Tell whether ``name`` has the shape of a value's filename: ``<text>-<16 hex digits>.bin``, at most 255 bytes."""
    return _FILENAME.fullmatch(name) is not None and len(name.encode()) <= _MAX_NAME_BYTES


def is_owner_filename(name: str) -> bool:
    """Tell whether ``name`` has the shape of an owner file's name: that of a value's, with ``.key`` at its end."""
    return name.endswith(".key") and is_filename(name.removesuffix(".key") + ".bin")


def alternatives(key: str) -> tuple[str, ...]:
    """Return the other keys with the same sanitized text and the same hash, sorted by their UTF-8 bytes.

    With up to eleven special characters and underscores these are all, or the first 64. With more, those are missing
    whose hashes agree only modulo 2 ** 64, and where the filename is cut, those that differ in what was cut off.

    Example:
        >>> alternatives("a?>")
        ('a>_',)
    """
    data = key.encode()
    keys = [data]
    filename = filename_for(key)
    if len(data) <= _MAX_UNCUT_BYTES and _UNSHARED_PLACES < filename.count("_") <= _COMPLETE_PLACES:
        solver = _solver_for([filename])
        solver.solve_all()
        ((row, first, group),) = solver.solved()
        keys = [first, *solver.more(row, group)[0]]
    others = [other.decode() for other in _sharing(keys) if other != data]
    return tuple(others[:_MAX_ALTERNATIVES])


def needs_owner_file(key: str) -> bool:
    r"""Tell whether the filename of ``key`` alone does not surely give it back, so that an owner file must name it.

    True when the filename has 252 bytes or more, when it is shared because hashes agree without the modulus (``a?>``
    and ``a>_``), when it is shared because they agree modulo 2 ** 64 and the key has up to 9 special characters and
    underscores, and when it has more than 9, unless these are of few kinds: one kind in any number, underscores and
    one other up to 26, ``_ /`` up to 34; of kinds that are usual together, ``_ / :`` and ``_ \ :`` up to 18, ``_ " :``
    and ``_ / : ?`` up to 16.

    Where it is False, ``candidates_of`` gives exactly ``key`` for its filename, complete, whatever else is listed. With
    up to 9 special characters and underscores no other key has that filename. With more, a second key without an owner
    file can have it only if somebody searched for such a pair: by accident less than one in 10 ** 9 keys has one. To
    rule that out too, every key of many places would need one, and deep paths would have twice as many files.

    Example:
        >>> needs_owner_file("session:7f3c:step:12"), needs_owner_file("<|im_start|>"), needs_owner_file("k" * 300)
        (False, True, True)
    """
    data = key.encode()
    if len(data) > _MAX_UNCUT_BYTES or _collides(data):
        return True
    places = sum(map(data.count, _UNKNOWNS))
    if places > _CERTAIN_PLACES:
        return places > _certain_places(frozenset(_UNKNOWNS).intersection(data))
    return places > _UNSHARED_PLACES and _is_shared(data)


def place_for(key: str) -> tuple[str, bool]:
    """Return the filename of ``key`` and whether it may have an owner file: what each operation on a file asks first.

    True where ``needs_owner_file`` is, and for all keys of more than 5 special characters and underscores: whether they
    need one takes up to a millisecond to find out, looking for the file takes less.
    """
    data = key.encode()
    if len(data) > _MAX_UNCUT_BYTES:
        return filename_for(key), True
    text = data.translate(_SANITIZED).decode()
    may_have_owner = text.count("_") > _UNSHARED_PLACES or ("__" in text and _collides(data))
    return f"{text}-{_hash(data):016x}.bin", may_have_owner


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


@lru_cache(_REMEMBERED)
def _is_shared(data: bytes) -> bool:
    """Tell whether any other text of the ten characters has the filename of ``data``."""
    from persistkit.keys.meeting import texts_of

    exponents = [len(data) - 1 - place for place, byte in enumerate(data) if byte in _UNKNOWNS]
    return texts_of(_UNKNOWNS, exponents, _hash(data) - _hash(data.translate(_SANITIZED)) & _MASK) > 1


@cache
def _certain_places(kinds: frozenset[int]) -> int:
    return max(most for letters, _, most in [*_FEW_KINDS, (_UNKNOWNS, 1, _CERTAIN_PLACES)] if kinds.issubset(letters))


def candidates_of(filenames: Iterable[str], *, thorough: bool = True) -> list[KeyCandidates]:
    """Return what each filename says about its key, in the order given.

    Every key for which ``needs_owner_file`` is False is found, and every key of up to eleven special characters and
    underscores, whatever else is listed. Keys of more are searched for, the likeliest texts first, up to 20
    milliseconds each and 50 seconds together; a solved name helps the others.

    Without ``thorough`` only keys for which ``needs_owner_file`` is False are found, and those that share their name.

    Any text is taken, surrogates from undecodable names included. Ctrl-C ends it at once.

    Example:
        >>> [candidates.keys for candidates in candidates_of(["a_b-000000000b8855f7.bin", "notes.txt"])]
        [('a/b',), ()]
    """
    names = list(filenames)
    found = {candidates.filename: candidates for candidates in candidates_as_found(names, thorough=thorough)}
    return [found[name] for name in names]


def candidates_as_found(filenames: Iterable[str], *, thorough: bool = True) -> Iterator[KeyCandidates]:
    """Iterate over what ``candidates_of`` returns in the order in which it is found, each filename once.

    For whoever shows a listing while it is made: the first thousand filenames take less than a second, but for hard
    names, which follow all others; those that were not solved come last. Closing the iterator ends the search.
    """
    names: list[str] = []
    hard: list[str] = []
    for name in dict.fromkeys(filenames):
        if _FILENAME.fullmatch(name) and len(name.encode()) < _CUT_NAME_BYTES:
            names.append(name)
        else:
            yield KeyCandidates(name, (), complete=False)
    lessons: list[bytes] = []
    start, size = 0, _FIRST_NAMES
    while some := names[start : start + size]:
        start, size = start + size, _MORE_NAMES
        solver = _solver_for(some)
        solver.solve_easy()
        lessons += solver.lessons()
        yield from _solved(solver, some)
        for row in solver.unsolved():
            if some[row].count("_") > _CERTAIN_PLACES:
                hard.append(some[row])
            else:
                yield KeyCandidates(some[row], (), complete=False)
    if not hard:
        return
    solver = _solver_for(hard)
    for _ in islice(solver.rounds(lessons), None if thorough else 1):
        yield from _solved(solver, hard)
    for row in solver.unsolved():
        yield KeyCandidates(hard[row], (), complete=False)


def _solver_for(names: list[str]) -> Solver:
    from persistkit.keys.solver import Solver

    hashes = bytes.fromhex("".join([name[1 - _SUFFIX_BYTES : -4] for name in names]))
    return Solver([name[:-_SUFFIX_BYTES].encode() for name in names], hashes, _FEW_KINDS)


def _solved(solver: Solver, names: list[str]) -> Iterator[KeyCandidates]:
    for row, key, group in solver.solved():
        name = names[row]
        if group < 0 and ("__" not in name or not _collides(key)):
            yield KeyCandidates(name, (key.decode(),), True)
            continue
        others, complete = solver.more(row, group)
        keys = _sharing([key, *others])
        complete &= len(keys) <= _MAX_ALTERNATIVES
        yield KeyCandidates(name, tuple(key.decode() for key in keys[:_MAX_ALTERNATIVES]), complete)


def _collides(data: bytes) -> bool:
    return any(map(_varies, _RUN.findall(data)))


@lru_cache(_REMEMBERED)
def _varies(run: bytes) -> bool:
    return len(_variants(run, 2)) > 1


def _variants(run: bytes, most: int) -> list[bytes]:
    """Return, sorted, the first runs of special characters and underscores that hash like ``run``, itself among them.

    From the last byte to the first, as one adds in base 33: each byte that becomes another one, with what was carried
    from the bytes after it, leaves a multiple of 33, which is carried on. Nothing may be carried out of the run.
    """
    ends: dict[int, list[bytes]] = {0: [b""]}
    for byte in reversed(run):
        longer: dict[int, list[bytes]] = {}
        for other in _UNKNOWNS:
            for carried, texts in ends.items():
                carry, rest = divmod(other - byte + carried, 33)
                if not rest:
                    found = longer.setdefault(carry, [])
                    found += [bytes([other]) + text for text in texts[: most - len(found)]]
        ends = longer
    return ends[0]


def _sharing(keys: Iterable[bytes]) -> list[bytes]:
    """Return, sorted, keys with the text and hash of one of ``keys``, these among them: at least 65 if there are."""
    most = _MAX_ALTERNATIVES + 1
    found: set[bytes] = set()
    for key in keys:
        pieces = [_variants(part, most) if number % 2 else [part] for number, part in enumerate(_RUN.split(key))]
        found.update(islice(map(b"".join, product(*pieces)), most))
    return sorted(found)
