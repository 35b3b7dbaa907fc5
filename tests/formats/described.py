"""Everything that makes a value what it is, as text: two values are the same when their descriptions are."""

from __future__ import annotations

from datetime import datetime, time, timezone
from typing import Any

import numpy as np
import pandas as pd


def described(value: Any) -> str:
    """Return everything that makes a value what it is, types included; NaN is like NaN."""
    content: object = repr(value)
    if isinstance(value, dict):
        content = [(described(key), described(item)) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        content = list(map(described, value))
    elif isinstance(value, (set, frozenset)):
        content = sorted(map(described, value))
    elif isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.inexact):
        content = value.dtype.str, value.dtype.descr, value.shape, value.tobytes("A")
    elif isinstance(value, (datetime, time)) and value is not pd.NaT:
        zone = value.tzinfo
        name = getattr(zone, "key", getattr(zone, "zone", None))
        kind = None if name and isinstance(value, pd.Timestamp) else type(zone)  # pandas chooses how it finds a name
        known = name, zone.utcoffset(None) if isinstance(zone, timezone) else None
        content = value.replace(tzinfo=None).isoformat(), value.fold, kind, known, getattr(value, "unit", None)
    elif isinstance(value, pd.Timedelta):
        content = value.to_numpy()
    return f"{type(value).__module__}.{type(value).__qualname__} {content!r}"
