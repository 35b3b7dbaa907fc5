"""What JSON has no word for, as ``{"$py": tag, "value": ...}``, and back.

The list is closed, and reading imports nothing that it is told to:

``datetime``, ``date``, ``time`` (ISO 8601, then ``[zone]`` and ``[fold=1]``), ``timedelta`` (three integers),
``Decimal``, ``UUID``, ``Path``, ``set``, ``frozenset``, ``tuple``, ``bytes`` (base64), ``complex``, ``range``,
``float`` (NaN or Infinity as a whole value), ``dict`` (pairs), ``numpy.<dtype>``, ``ndarray`` (base64 of ``.npy``),
``Timestamp``, ``Timedelta``, ``NaT``.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from persistkit.arguments import BytesLike
from persistkit.errors import FormatError

__all__ = ["MARK", "has_many_hashes", "read_tags", "tag_of"]

MARK: Final = "$py"

_ZONE: Final = re.compile(r"[A-Za-z][\w+/-]*")
_MOMENT: Final = re.compile(rf"([^\[]+)(?:\[({_ZONE.pattern})\])?(\[fold=1\])?")
_TIMES: Final = re.compile(r"(?:datetime64|timedelta64)(?:\[\w+\])?")
_NUMBERS: Final = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
)
_CONTAINERS: Final[dict[str, Callable[[Any], Any]]] = {kind.__name__: kind for kind in (tuple, set, frozenset, dict)}
# Many values of one hash take minutes to put into a set or dict.
_FEW: Final = 1_000


def tag_of(value: Any) -> tuple[str, Any] | None:
    """Return the tag of a single value, and what JSON keeps of it; None when there is no tag.

    Raises:
        FormatError: it would come back changed.
    """
    kind = type(value)
    if kind in _NAMES:
        name = _NAMES[kind]
        return name, _TAGS[name][1](value)
    home = kind.__module__.partition(".")[0]
    if home == "numpy" and hasattr(value, "dtype"):
        return _write_numpy(value)
    return _write_pandas(value) if home == "pandas" else None


def read_tags(value: Any) -> Any:
    """Return parsed JSON with every tagged object as what it stands for; lists and dicts are changed in place.

    An object that is not exactly a tag as it is written stays a dict.
    """
    if type(value) is not list and type(value) is not dict:
        return value
    for place, item in value.items() if type(value) is dict else enumerate(value):
        if type(item) is dict or type(item) is list:
            value[place] = read_tags(item)
    if type(value) is dict and len(value) == 2 and type(value.get(MARK)) is str and "value" in value:
        try:
            return _read_tag(value[MARK], value["value"])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, OSError):
            return value
    return value


def has_many_hashes(values: Collection[Any]) -> bool:
    """Tell whether values can be put into a set or dict in a sensible time."""
    return len(values) < _FEW or 4 * len(set(map(hash, values))) > len(values)


def _read_tag(name: str, content: Any) -> Any:
    """Return the value of a tag; any exception says that it is none."""
    if name in _CONTAINERS:
        return _read_container(name, content)
    if name == "ndarray":
        from persistkit.formats.arrays import decode_array

        return decode_array(bytearray(_from_base64(content)))
    if name.startswith("numpy."):
        value = _read_numpy(name[6:], content)
    else:
        value = _TAGS[name][2](content) if name in _TAGS else _read_pandas(name, content)
    # Told apart as text: 1, 1.0 and True differ, and NaN is NaN.
    if repr(tag_of(value)) != repr((name, content)):
        raise ValueError(name)
    return value


def _write_moment(moment: Any) -> str:
    fold = "[fold=1]" if moment.fold else ""
    zone = moment.tzinfo
    if zone is None or type(zone) is timezone:
        return f"{moment.isoformat()}{fold}"
    return f"{moment.replace(tzinfo=None).isoformat()}[{_zone_name(zone)}]{fold}"


def _read_moment(kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        parts = _MOMENT.fullmatch(text)
        if parts is None:
            raise ValueError(text)
        moment = kind.fromisoformat(parts[1])
        return moment.replace(tzinfo=ZoneInfo(parts[2]) if parts[2] else moment.tzinfo, fold=1 if parts[3] else 0)

    return read


def _zone_name(zone: Any) -> str | None:
    if zone is None:
        return None
    if type(zone) is timezone:
        return datetime.min.replace(tzinfo=zone).isoformat()[19:]
    if type(zone) is ZoneInfo and _ZONE.fullmatch(zone.key or ""):
        with suppress(KeyError, ValueError, OSError):  # one that was read from a file may have a name of its own
            return ZoneInfo(zone.key).key
    raise FormatError(f"a time zone of type {type(zone).__name__} is not kept; use zoneinfo.ZoneInfo or datetime.UTC")


def _write_decimal(value: Decimal) -> str:
    if value.is_snan():
        raise FormatError("a signaling NaN compares with nothing; store Decimal('NaN')")
    return str(value)


def _to_base64(data: BytesLike) -> str:
    return b64encode(data).decode()


def _from_base64(text: str) -> bytes:
    return b64decode(text, validate=True)


def _write_complex(value: Any) -> list[float]:
    return [float(value.real), float(value.imag)]


def _read_float(number: Any) -> float:
    if number - number == 0:
        raise ValueError("JSON has words for it")
    return float(number)


def _read_container(name: str, items: Any) -> Any:
    if type(items) is not list:
        raise TypeError(name)
    if name == "tuple":
        return tuple(items)
    keys = [key for key, _ in items] if name == "dict" else items
    made = _CONTAINERS[name](items) if has_many_hashes(keys) else ()
    if len(made) < len(items):
        raise ValueError("one item twice")
    if name == "dict" and (set(map(type, items)) != {list} or (set(map(type, keys)) == {str} and MARK not in made)):
        raise ValueError("no pairs, or an object of JSON")
    return made


def _write_numpy(value: Any) -> tuple[str, Any] | None:
    import numpy as np

    if type(value) is np.ndarray:
        from persistkit.formats.arrays import encode_array

        if value.dtype.kind in "OV":
            way = "store value.tolist()" if value.dtype.hasobject else "store it under a key of its own"
            raise FormatError(f"an array of dtype {value.dtype} is not kept inside JSON; {way}")
        return "ndarray", _to_base64(encode_array(value))
    if not isinstance(value, np.generic):
        return None
    name: str = value.dtype.name
    content: Any = value
    if name in _NUMBERS:
        content = value.item()
    elif name in ("complex64", "complex128"):
        content = _write_complex(value)
    elif _TIMES.fullmatch(name):
        content = int(value.astype("int64"))
    elif type(value) is np.str_:
        name, content = "str_", str.__str__(value)  # NumPy's own drops NULs at the end
    elif type(value) is np.bytes_:
        name, content = "bytes_", _to_base64(value)
    else:
        return None
    return (f"numpy.{name}", content) if type(_read_numpy(name, content)) is type(value) else None


def _read_numpy(name: str, content: Any) -> Any:
    import numpy as np

    if name == "str_":
        return np.str_(content)
    if name == "bytes_":
        return np.bytes_(_from_base64(content))
    if _TIMES.fullmatch(name):
        return np.array(content, "int64").view(name)[()]
    if name in ("complex64", "complex128"):
        return np.dtype(name).type(complex(*content))
    # Not np.int8(300): NumPy before 2.1 warns of what later versions refuse.
    return np.array(content).astype(name)[()] if name in _NUMBERS else None


def _write_pandas(value: Any) -> tuple[str, Any] | None:
    import pandas as pd

    if value is pd.NaT:
        return "NaT", None
    if type(value) is pd.Timedelta:
        return "Timedelta", [int(value.to_numpy().astype("int64")), value.unit]
    if type(value) is not pd.Timestamp:
        return None
    by_pytz = getattr(value.tz, "zone", None)  # what pandas 2 makes of the name of a zone
    content = [str(value.to_numpy()), value.unit, by_pytz or _zone_name(value.tz), value.fold]
    back = _read_pandas("Timestamp", content)
    if (back, back.fold, back.unit, back.utcoffset()) != (value, value.fold, value.unit, value.utcoffset()):
        raise FormatError(f"the Timestamp {value!r} comes back as {back!r}; store value.to_pydatetime()")
    return "Timestamp", content


def _read_pandas(name: str, content: Any) -> Any:
    if name not in ("NaT", "Timedelta", "Timestamp"):
        raise KeyError(name)
    import numpy as np
    import pandas as pd

    if name == "NaT":
        return pd.NaT
    if name == "Timedelta":
        return pd.Timedelta(np.timedelta64(*content))
    text, unit, zone, fold = content
    moment = pd.Timestamp(np.datetime64(text, unit))
    if zone is not None:
        midnight = _read_moment(time)(f"00:00:00{zone}" if zone[0] in "+-" else f"00:00:00[{zone}]")
        moment = moment.tz_localize("UTC").tz_convert(midnight.tzinfo)
    return moment if moment.fold == fold else moment.replace(fold=fold)


# Tag, its type, what JSON keeps of a value, and the value of that again.
_TAGS: Final[dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "datetime": (datetime, _write_moment, _read_moment(datetime)),
    "time": (time, _write_moment, _read_moment(time)),
    "date": (date, date.isoformat, date.fromisoformat),
    "timedelta": (
        timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    "Decimal": (Decimal, _write_decimal, Decimal),
    "UUID": (UUID, str, UUID),
    "Path": (type(Path()), str, Path),
    "bytes": (bytes, _to_base64, _from_base64),
    "complex": (complex, _write_complex, lambda parts: complex(*parts)),
    "range": (range, lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
    "float": (float, lambda value: value, _read_float),
}
_NAMES: Final = {kind: name for name, (kind, _, _) in _TAGS.items()}
