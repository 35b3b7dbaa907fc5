"""What a value is, told by its first bytes and its key, and the ways to show it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from persistkit.rows import MAGIC

__all__ = ["Kind", "kind_of", "text_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is.

    Attributes:
        name: short, for the column of kinds.
        label: in words.
        views: how it can be shown, the best first; ``text`` and ``hex`` are always among them.
        extension: of the file when it is downloaded.
        mime: of an image, for the page.
    """

    name: str
    label: str
    views: tuple[str, ...] = ("hex", "text")
    extension: str = ".bin"
    mime: str = ""


def _image(name: str, extension: str = "", mime: str = "") -> Kind:
    return Kind(
        name, f"{name.upper()} image", ("image", "hex", "text"), extension or f".{name}", f"image/{mime or name}"
    )


def _file(name: str, label: str, extension: str = "") -> Kind:
    return Kind(name, label, extension=extension or f".{name}")


_TEXT: Final = Kind("text", "Text", ("text", "hex"), ".txt")
_EMPTY: Final = Kind("empty", "Empty", ("text", "hex"), ".txt")
_BYTES: Final = Kind("bytes", "Bytes")
_JSON: Final = Kind("json", "JSON", ("json", "text", "hex"), ".json")
_LINES: Final = Kind("jsonl", "JSON Lines", ("table", "json", "text", "hex"), ".jsonl")
_SVG: Final = Kind("svg", "SVG image", ("image", "text", "hex"), ".svg", "image/svg+xml")
_RIFF: Final = {b"WEBP": _image("webp"), b"WAVE": _file("wav", "WAV sound")}
_STARTS: Final = {
    MAGIC: Kind("langgraph", "LangGraph", ("json", "hex", "text")),
    b"\x93NUMPY": Kind("npy", "NumPy array", ("table", "hex", "text"), ".npy"),
    b"PAR1": Kind("parquet", "Parquet table", ("table", "hex", "text"), ".parquet"),
    b"\x89PNG\r\n\x1a\n": _image("png"),
    b"\xff\xd8\xff": _image("jpeg", ".jpg"),
    b"GIF87a": _image("gif"),
    b"GIF89a": _image("gif"),
    b"%PDF-": _file("pdf", "PDF document"),
    b"\x1f\x8b": _file("gzip", "gzip archive", ".gz"),
    b"PK\x03\x04": _file("zip", "ZIP archive"),
    b"BZh": _file("bzip2", "bzip2 archive", ".bz2"),
    b"\xfd7zXZ\x00": _file("xz", "xz archive"),
    b"\x28\xb5\x2f\xfd": _file("zstd", "Zstandard archive", ".zst"),
    b"SQLite format 3\x00": _file("sqlite", "SQLite database", ".db"),
    b"\x89HDF\r\n\x1a\n": _file("hdf5", "HDF5 file", ".h5"),
    b"ARROW1\x00\x00": _file("arrow", "Arrow file"),
    b"\x7fELF": _file("elf", "ELF program", ".elf"),
    b"OggS": _file("ogg", "Ogg sound"),
    b"ID3": _file("mp3", "MP3 sound"),
    b"fLaC": _file("flac", "FLAC sound"),
}
_ENDINGS: Final = {
    ".csv": Kind("csv", "CSV table", ("table", "text", "hex"), ".csv"),
    ".tsv": Kind("tsv", "TSV table", ("table", "text", "hex"), ".tsv"),
    ".md": Kind("markdown", "Markdown", ("markdown", "text", "hex"), ".md"),
    ".markdown": Kind("markdown", "Markdown", ("markdown", "text", "hex"), ".md"),
    ".jsonl": _LINES,
    ".ndjson": _LINES,
}
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05].*", re.DOTALL)
_SVG_START: Final = re.compile(r"(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE svg[^>]*>|\s)*<svg[\s>]", re.DOTALL)
_JSON_START: Final = re.compile(r"\ufeff?\s*[\[{]")
_SCALAR_JSON: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')
_SCALAR: Final = 4096
# A line that begins a second object after a first one: JSON Lines, seen from the beginning alone.
_LINES_START: Final = re.compile(r"\ufeff?\s*[\[{][^\r\n]*[\]}][ \t]*[\r\n]\s*[\[{]")


def text_of(data: bytes) -> str | None:
    """Return the text of ``data``, a character cut at its end left out; None when it is no UTF-8 text."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or len(data) - error.start > 3:
            return None
        return data[: error.start].decode()


def kind_of(data: bytes, key: str | None = None) -> Kind:
    r"""Tell what a value is by its first bytes, and for text by the end of its key.

    Example:
        >>> kind_of(b'{"a": 1}').name, kind_of(b"a,b\n1,2\n", "runs.csv").name, kind_of(b"\x80\x04K\x01.").label
        ('json', 'csv', 'Python pickle')
    """
    if not data:
        return _EMPTY
    text = text_of(data)
    for start, kind in _STARTS.items():
        if data.startswith(start) and (text is None or "image" in kind.views or kind.name in ("parquet", "npy")):
            return kind
    if data.startswith(b"RIFF") and data[8:12] in _RIFF:
        return _RIFF[data[8:12]]
    if text is None:
        return _file("pickle", "Python pickle", ".pkl") if _PICKLE.match(data) else _BYTES
    ending = re.search(r"\.\w+\Z", (key or "").lower())
    if ending and ending[0] in _ENDINGS:
        return _ENDINGS[ending[0]]
    if _SVG_START.match(text):
        return _SVG
    if _LINES_START.match(text):
        return _LINES
    return _JSON if _JSON_START.match(text) or (len(data) <= _SCALAR and _SCALAR_JSON.fullmatch(text)) else _TEXT
