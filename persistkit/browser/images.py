"""How large an image is, read from its first bytes: a few bytes can ask a page for gigabytes of pixels."""

from __future__ import annotations

import struct
from struct import unpack_from

__all__ = ["image_size"]

# The JPEG segments that begin with the size: SOF0 to SOF15 without DHT, JPG and DAC.
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(data: bytes, name: str) -> tuple[int, int] | None:
    r"""Return width and height in pixels, or None when they cannot be read.

    Args:
        data: the image, or enough of its beginning.
        name: ``png``, ``jpeg``, ``gif`` or ``webp``.

    Example:
        >>> image_size(b"GIF89a\x20\x03\x58\x02", "gif")
        (800, 600)
    """
    try:
        return {"png": _png, "jpeg": _jpeg, "gif": _gif, "webp": _webp}[name](data)
    except (struct.error, IndexError):
        return None


def _png(data: bytes) -> tuple[int, int]:
    width, height = unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_SIZES:
            height, width = unpack_from(">HH", data, position + 5)
            return width, height
        if marker == 0xFF:  # a filling byte
            position += 1
        else:
            position += 2 + int(unpack_from(">H", data, position + 2)[0])
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, more_width, height, more_height = unpack_from("<HBHB", data, 24)
        return width + (more_width << 16) + 1, height + (more_height << 16) + 1
    if kind == b"VP8L":
        bits = unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
