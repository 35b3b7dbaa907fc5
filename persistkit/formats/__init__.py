"""Python values as bytes and back: JSON, NumPy arrays and tables, told apart by their content.

The law: what goes in comes back equal, or is refused with a ``FormatError`` naming the path to the culprit. Two
exceptions, on purpose: tuples come back as lists, and a DatetimeIndex loses its frequency. NumPy scalars go in as
their Python value, as the name of a Series and in ``attrs`` too; the Decimals of a column come back with one number
of digits (``1.5`` beside ``2.25`` as ``1.50``). Nothing is ever pickled, neither written nor read.

Bytes of other programs are only called damaged when they begin as npy or Parquet and are neither. JSON reads as in
Python's ``json``: the last of a repeated object key wins, and a number beyond what a float holds is infinite
(``1e999``) or rounded.
"""

from __future__ import annotations

from persistkit.formats.reading import decode, decode_text, format_of, named_by_start
from persistkit.formats.writing import encode

__all__ = ["decode", "decode_text", "encode", "format_of", "named_by_start"]
