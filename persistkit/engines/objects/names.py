"""Object names: a filename as object stores take it, and what the names of a listing say about keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

from persistkit.arguments import check_key
from persistkit.keys import KeyCandidates, candidates_of, filename_for, needs_owner_file, owner_filename_for, place_for

__all__ = ["key_in", "object_name", "object_place", "read_names"]

# The last two are no characters of XML, in which S3 tells a listing.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")
_ESCAPED: Final = re.compile(r"%(0[0-9A-F]|1[0-9A-F]|7F|EF%BF%B[EF])")


def object_name(filename: str) -> str:
    r"""Return the object's name for a filename: control characters, which object stores refuse, as ``%0A``.

    Example:
        >>> object_name("line\nfeed-0000000000000000.bin")
        'line%0Afeed-0000000000000000.bin'
    """
    return _CONTROL.sub(lambda found: quote(found[0]), filename)


def object_place(key: str) -> tuple[str, str | None]:
    """Return the name of the object of ``key``, and of its owner object if it needs one.

    A listing reads a name as it is, or with all escapes undone, and the hash fits one of the two. A filename that has
    control characters and holds the text of an escape as well is neither.
    """
    filename, may_have_owner = place_for(key)
    needs_owner = may_have_owner and needs_owner_file(key)
    name = object_name(filename)
    if name != filename and _unescaped(name) != filename:
        needs_owner = True
    return name, owner_filename_for(name) if needs_owner else None


def key_in(content: bytes | None, name: str) -> str | None:
    """Return the key an owner object's content names, None when it is none or another object's."""
    try:
        key = (content or b"\xff").decode()
        check_key(key)
    except ValueError:
        return None
    return key if object_name(filename_for(key)) == name else None


def read_names(names: Iterable[str], owners: Mapping[str, str]) -> dict[str, KeyCandidates]:
    """Return what each object's name says about its key; it is certain where an owner object tells it."""
    unowned = [name for name in names if name not in owners]
    escaped = [name for name in unowned if _ESCAPED.search(name)]
    # The hash fits one of the two readings only.
    unescaped = zip(escaped, candidates_of(map(_unescaped, escaped)), strict=True)
    read = dict(zip(unowned, candidates_of(unowned), strict=True))
    read |= {name: found for name, found in unescaped if found.keys}
    return read | {name: KeyCandidates(filename_for(key), (key,), True) for name, key in owners.items()}


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: unquote(found[0]), name)
