"""How large an image is, told by its header: a few bytes may unpack to more than a page's memory."""

from __future__ import annotations

from typing import Final

__all__ = ["pixels"]

# The markers that begin a JPEG's frame: baseline, progressive and the rarer ones, without the tables between them.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def pixels(data: bytes) -> int:
    """Return how many pixels a PNG, JPEG, GIF or WebP says it has; 0 when its header is not in ``data``.

    Example:
        >>> pixels(b"GIF89a" + bytes([0, 1, 0, 2]))
        131072
    """
    if data.startswith(b"\x89PNG"):
        return _number(data[16:20][::-1]) * _number(data[20:24][::-1])
    if data.startswith(b"GIF8"):
        return _number(data[6:8]) * _number(data[8:10])
    if data.startswith(b"\xff\xd8"):
        return _jpeg_pixels(data)
    return _webp_pixels(data)


def _jpeg_pixels(data: bytes) -> int:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return 0
        marker = data[at + 1]
        if marker in _FRAMES:
            return _number(data[at + 5 : at + 7][::-1]) * _number(data[at + 7 : at + 9][::-1])
        # A marker may be preceded by any number of bytes 0xFF.
        at += 1 if marker == 0xFF else 2 + max(2, _number(data[at + 2 : at + 4][::-1]))
    return 0


def _webp_pixels(data: bytes) -> int:
    kind = data[12:16]
    if kind == b"VP8X":
        return (_number(data[24:27]) + 1) * (_number(data[27:30]) + 1)
    if kind == b"VP8L":
        sizes = _number(data[21:25])
        return ((sizes & 0x3FFF) + 1) * ((sizes >> 14 & 0x3FFF) + 1)
    return (_number(data[26:28]) & 0x3FFF) * (_number(data[28:30]) & 0x3FFF)


def _number(little_end_first: bytes) -> int:
    return int.from_bytes(little_end_first, "little")
