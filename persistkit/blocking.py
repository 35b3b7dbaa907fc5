"""BlockingBackend: any backend without await."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Self

from persistkit.backend import BlockingCore, BlockingReader, BlockingWriter, Entry, PersistenceBackend
from persistkit.operations import (
    BytesLike,
    Items,
    check_key,
    check_keys,
    check_prefix,
    check_value,
    collect_items,
    traced,
)

__all__ = ["BlockingBackend"]
