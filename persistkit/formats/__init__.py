"""Python values as bytes and back: JSON, text, NumPy arrays and tables, told apart by their content.

The law: what goes in comes back equal and of the same type, or is refused with a ``FormatError`` that names the path
to the culprit and what to store instead. One exception, on purpose: a DatetimeIndex loses its frequency. Nothing is
ever pickled, neither written nor read.

Bytes of other programs are only called damaged when they begin as npy or as a row of LangGraph's, or begin and end as
Parquet, and are none of these.
JSON reads as in Python's ``json``: the last of a repeated object key wins, and a number beyond what a float holds is
infinite (``1e999``) or rounded.
"""

from __future__ import annotations

from persistkit.formats.reading import decode, decode_text, format_of
from persistkit.formats.writing import encode

__all__ = ["decode", "decode_text", "encode", "format_of"]
