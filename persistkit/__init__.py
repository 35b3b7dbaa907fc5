"""Session checkpoints, step logs and results as bytes under string keys: kept safely, listed truly, seen in a notebook.

All names but the errors load what they need when they are first used: ``import persistkit`` brings in neither NumPy
nor pandas nor widgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from persistkit.errors import (
    BatchError,
    FormatError,
    InvalidKeyError,
    KeyCollisionError,
    ListingNotSupportedError,
    MissingKeyError,
    PersistenceError,
    ReadOnlyError,
    StorageError,
    TransferError,
    ValueTooLargeError,
)

if TYPE_CHECKING:
    from persistkit import agents, transfer
    from persistkit.backend import (
        EngineBackend,
        FilePersistenceBackend,
        MemoryPersistenceBackend,
        PersistenceBackend,
        open_backend,
    )
    from persistkit.background import BackendEngine
    from persistkit.browser import browse
    from persistkit.diff import diff_values
    from persistkit.engine import Engine
    from persistkit.engines import open_engine
    from persistkit.entry import Entry
    from persistkit.frames import to_frame
    from persistkit.store import Store, open  # noqa: A004 - persistkit.open is its name

__version__ = "0.2.0"

__all__ = [
    "BackendEngine",
    "BatchError",
    "Engine",
    "EngineBackend",
    "Entry",
    "FilePersistenceBackend",
    "FormatError",
    "InvalidKeyError",
    "KeyCollisionError",
    "ListingNotSupportedError",
    "MemoryPersistenceBackend",
    "MissingKeyError",
    "PersistenceBackend",
    "PersistenceError",
    "ReadOnlyError",
    "StorageError",
    "Store",
    "TransferError",
    "ValueTooLargeError",
    "agents",
    "browse",
    "diff_values",
    "open",
    "open_backend",
    "open_engine",
    "to_frame",
    "transfer",
]

_HOMES: Final = {
    "BackendEngine": "background",
    "Engine": "engine",
    "EngineBackend": "backend",
    "Entry": "entry",
    "FilePersistenceBackend": "backend",
    "MemoryPersistenceBackend": "backend",
    "PersistenceBackend": "backend",
    "Store": "store",
    "browse": "browser",
    "diff_values": "diff",
    "open": "store",
    "open_backend": "backend",
    "open_engine": "engines",
    "to_frame": "frames",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'persistkit' has no attribute {name!r}; it offers {', '.join(__all__)}")
    if name not in _HOMES:
        return import_module(f"persistkit.{name}")
    value = getattr(import_module(f"persistkit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:  # Tab is to show what is not loaded yet
    return __all__
