"""Session checkpoints, step logs and results as bytes under string keys: kept safely, listed truly, seen in a notebook.

The names here load what they need when they are first used: ``import persistkit`` brings in neither NumPy nor
pandas nor widgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persistkit import agent_runtime, transfer
    from persistkit.backend import Entry, PersistenceBackend
    from persistkit.backends import open_backend
    from persistkit.backends.file import FilePersistenceBackend
    from persistkit.backends.memory import MemoryPersistenceBackend
    from persistkit.blocking import BlockingBackend
    from persistkit.browser import browse
    from persistkit.frames import to_frame
    from persistkit.store import Store, open  # noqa: A004 - persistkit.open is its name

__all__ = [
    "BlockingBackend",
    "Entry",
    "FilePersistenceBackend",
    "MemoryPersistenceBackend",
    "PersistenceBackend",
    "Store",
    "agent_runtime",
    "browse",
    "open",
    "open_backend",
    "to_frame",
    "transfer",
]

_HOMES = {
    "BlockingBackend": "persistkit.blocking",
    "Entry": "persistkit.backend",
    "FilePersistenceBackend": "persistkit.backends.file",
    "MemoryPersistenceBackend": "persistkit.backends.memory",
    "PersistenceBackend": "persistkit.backend",
    "Store": "persistkit.store",
    "browse": "persistkit.browser",
    "open": "persistkit.store",
    "open_backend": "persistkit.backends",
    "to_frame": "persistkit.frames",
}
_MODULES = ("agent_runtime", "transfer")


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"persistkit.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'persistkit' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
