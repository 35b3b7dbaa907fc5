"""Object names: a filename as object stores take it, and what the names of a listing say about keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

from persistkit.filenames import filename_for, keys_for

__all__ = ["NamedKey", "filenames_of", "key_in", "object_name", "read_names"]


def __dir__() -> list[str]:
    return __all__


NamedKey = tuple[str, str | None, bool]

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


def filenames_of(name: str) -> tuple[str, str]:
    """Return the two filenames an object's name may stand for: as it is, and with its escapes undone."""
    return name, _unescaped(name)


def key_in(content: bytes | None, filename: str) -> str | None:
    """Return the key a companion's content names, None when it is none or another filename's."""
    try:
        key = (content or b"\xff").decode()
    except UnicodeDecodeError:
        return None
    return key if filename_for(key) == filename else None


def read_names(names: Sequence[str], claimed: Mapping[str, str]) -> dict[str, NamedKey]:
    """Return filename, key and ambiguity of each object: the claimed key, else what the name reads as."""
    unclaimed = [name for name in names if name not in claimed]
    escaped = [name for name in unclaimed if _ESCAPED.search(name)]
    # The hash fits one of the two readings only.
    unescaped = zip(escaped, keys_for(map(_unescaped, escaped)), strict=True)
    readings = dict(zip(unclaimed, keys_for(unclaimed), strict=True))
    readings |= {name: reading for name, reading in unescaped if reading.keys}
    named: dict[str, NamedKey] = {}
    for name in names:
        if name in claimed:
            named[name] = filename_for(claimed[name]), claimed[name], False
        else:
            keys = readings[name].keys
            named[name] = readings[name].filename, keys[0] if keys else None, len(keys) > 1
    return named


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: unquote(found[0]), name)
