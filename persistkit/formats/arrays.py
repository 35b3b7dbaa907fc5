"""NumPy arrays as ``.npy`` bytes and back (format: ``numpy.lib.format``), without object arrays."""

from __future__ import annotations

import ast
import io
from math import prod
from sys import maxsize
from typing import Any, Final

import numpy as np

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError

__all__ = ["decode_array", "encode_array", "npy_header"]

# NumPy's own bound: a longer header could keep Python's parser busy.
_MAX_HEADER: Final = 10_000
_MAX_EMPTY_ITEMS: Final = 1 << 20


def encode_array(value: np.ndarray[Any, Any]) -> memoryview:
    """Return an array as ``.npy`` bytes that ``decode_array`` turns back into an equal one.

    Raises:
        FormatError: a dtype that ``.npy`` does not keep.
    """
    dtype = value.dtype
    if dtype.hasobject or dtype.kind not in "?biufcSUMmV":
        raise FormatError(f"$: an array of dtype {dtype} would need pickle; convert it to numbers or fixed-width text")
    changed = f"$: the dtype {dtype} does not come back as it went in; use value.astype(...) of a plain one"
    if _has_metadata(dtype):
        raise FormatError(changed)
    buffer = io.BytesIO()
    try:
        version = None if str(dtype).isascii() else (3, 0)
        np.lib.format.write_array(buffer, value, version=version, allow_pickle=False)
        kept, _, shape, _ = npy_header(buffer.getbuffer()[: 2 * _MAX_HEADER])
    except (ValueError, TypeError) as error:
        raise FormatError(f"$: an array of dtype {dtype} does not come back as it went in: {error}") from error
    if kept != dtype or shape != value.shape or _has_metadata(dtype):
        raise FormatError(
            f"$: the dtype {dtype} does not come back as it went in; use value.astype(...) of a plain one"
        )
    return buffer.getbuffer()


def decode_array(data: BytesLike) -> np.ndarray[Any, Any]:
    """Return the array of ``.npy`` bytes, writable: a copy, or in the very buffer if that is writable.

    Raises:
        FormatError: the bytes are damaged, cut, or hold objects.
    """
    dtype, fortran, shape, start = npy_header(data)
    wanted = prod(shape) * dtype.itemsize
    if wanted != len(data) - start:
        raise FormatError(f"damaged npy: the header speaks of {wanted:,} bytes, {len(data) - start:,} are there")
    if wanted == 0:
        return np.zeros(shape, dtype, order="F" if fortran else "C")
    flat = np.frombuffer(data, dtype, offset=start)
    if not flat.flags.behaved:
        flat = flat.copy()
    return flat.reshape(shape, order="F" if fortran else "C")


def npy_header(data: BytesLike) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Return dtype, whether columns come first, shape, and where the items start, all checked.

    Args:
        data: the value, or so much of it that the header is in it.

    Raises:
        FormatError: there is no header that could be meant, or the items are Python objects.
    """
    try:
        start = 12 if data[6] > 1 else 10
        end = start + int.from_bytes(data[8:start], "little")
        if data[6] not in (1, 2, 3) or end > len(data) or end - start > _MAX_HEADER:
            raise ValueError("no header this version of the format has")
        fields = ast.literal_eval(bytes(data[start:end]).decode("utf-8" if data[6] == 3 else "latin1").strip())
        if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
            raise ValueError("the header lacks dtype, order or shape")
        dtype, shape = np.lib.format.descr_to_dtype(fields["descr"]), fields["shape"]
        if dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never opened")
        if type(shape) is not tuple or len(shape) > 64 or not all(type(n) is int and 0 <= n <= maxsize for n in shape):
            raise ValueError("the shape is no tuple of sizes")
        if (dtype.itemsize == 0 or 0 in shape) and prod(side or 1 for side in shape) > _MAX_EMPTY_ITEMS:
            raise ValueError("more empty items than can be meant")
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, KeyError, IndexError) as error:
        raise FormatError(f"damaged npy: {str(error)[:300]}") from error
    return dtype, bool(fields["fortran_order"]), shape, end


def _has_metadata(dtype: np.dtype[Any]) -> bool:
    return dtype.metadata is not None or any(_has_metadata(field[0]) for field in (dtype.fields or {}).values())
