"""Untrusted text, sizes and times, written so that people read what is there."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from persistkit.entry import Entry

__all__ = ["human_size", "human_time", "keys_and_size", "label_of", "path_step", "visible"]

# C0 and C1 controls, bidirectional overrides and marks, zero width characters, lone surrogates.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def human_size(size_bytes: int) -> str:
    """Return a size as people read it."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size_bytes:,} B" if unit == "B" else f"{size:,.1f} {unit}"


def human_time(moment: datetime | None) -> str:
    """Return a time to the second, nothing for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def keys_and_size(keys: int, size_bytes: int) -> str:
    """Return how many keys there are, and the size of their values."""
    return f"{keys:,} {'key' if keys == 1 else 'keys'}, {human_size(size_bytes)}"


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return ``text`` with what a page would hide or obey written out: controls, ANSI escapes, direction overrides.

    Args:
        text: anything, lone surrogates included.
        lines: keep line ends and tabs.

    Example:
        >>> visible("a\x1b[31m\u202eb")
        'a␛[31m⟨U+202E⟩b'
    """
    if not lines:
        text = text.replace("\n", "␊").replace("\t", "␉")
    return _HIDDEN.sub(_written_out, text.replace("\r\n", "\n") if lines else text)


def label_of(entry: Entry, longest: int) -> str:
    """Return an entry's key, or its filename where that is unknown, ``visible``; a long one without its middle."""
    text = visible(entry.filename if entry.key is None else entry.key)
    return text if len(text) <= longest else f"{text[: longest - 13]}…{text[-12:]}"


def path_step(name: object) -> str:
    """Return the step of a path into what has ``name``: ``.loss``, or ``['odd key']``."""
    return f".{name}" if type(name) is str and name.isidentifier() else f"[{name!r}]"


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
