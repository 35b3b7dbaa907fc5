"""Which runtime stored what a store holds, and its sessions."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from persistkit.agents.records import Session
from persistkit.background import engine_of
from persistkit.errors import FormatError
from persistkit.store import Store
from persistkit.text import human_time, visible

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["read_session", "read_sessions", "runtime_of", "state_of", "store_of"]

# Rust last: its keys are any that begin with `session:`.
_READERS: Final = ("langgraph", "openai", "rust")
_OWN_CHANNELS: Final = ("branch:", "start:", "__")


def runtime_of(place: Place) -> str | None:
    """Return which runtime stored what is here: ``rust``, ``langgraph``, ``openai``; None for none that is known.

    Raises:
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
        StorageError: the storage refused, is gone or did not answer.
    """
    reader = _reader_of(store_of(place, "runtime_of"))
    return None if reader is None else reader.__name__.rpartition(".")[2]


def read_sessions(store: Store, skipped: dict[str, str], session: str | None = None) -> Iterator[Session]:
    """Yield the sessions of the runtime that is recognised; see ``persistkit.agents.records``.

    Raises:
        ValueError: values are stored, and none of a runtime that is known.
        StorageError: the storage refused, is gone or did not answer.
    """
    reader = _reader_of(store)
    if reader is not None:
        yield from reader.read_sessions(store, skipped, session)
    elif next(iter(store.engine.entries()), None) is not None:
        raise ValueError(
            f"{store.address} holds nothing of an agent runtime that is known ({', '.join(_READERS)}); "
            "store.browse() shows what it holds"
        )


def read_session(store: Store, session: str | None) -> Session:
    """Return the session of that id, or the one that ended last.

    Raises:
        KeyError: there is none.
        FormatError: it is damaged.
        ValueError: values are stored, and none of a runtime that is known.
        StorageError: the storage refused, is gone or did not answer.
    """
    skipped: dict[str, str] = {}
    sessions = read_sessions(store, skipped, session)
    found = max(sessions, key=lambda one: (human_time(one.ended), one.id), default=None)
    if found is not None:
        return found
    if skipped:
        raise FormatError("; ".join(f"{key}: {reason}" for key, reason in skipped.items())[:500])
    if session is None:
        raise KeyError(f"no session is stored in {store.address}")
    raise KeyError(f"no session {visible(session)!r} in {store.address}; sessions_frame(store) lists the sessions")


def state_of(place: Place, key: str) -> Any:
    """Return the state of a run as it is stored under ``key``, a ``key`` of ``steps_frame``.

    LangGraph: the channels of the checkpoint by name, its own (which node runs next) left out; a delta channel is
    there where its snapshot is. Other runtimes: the value as it is.

    Raises:
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
        KeyError: nothing is stored under ``key``.
        FormatError: the value is damaged.
        StorageError: the storage refused, is gone or did not answer.

    Example:
        >>> import persistkit
        >>> store = persistkit.open("memory:")
        >>> store["1"] = {"checkpoint": {"channel_values": {"budget": 4557, "branch:to:model": None}}}
        >>> state_of(store, "1")
        {'budget': 4557}
    """
    value = store_of(place, "state_of")[key]
    checkpoint = value.get("checkpoint") if isinstance(value, dict) else None
    channels = checkpoint.get("channel_values") if isinstance(checkpoint, dict) else None
    if not isinstance(channels, dict):
        return value
    return {name: channel for name, channel in channels.items() if not str(name).startswith(_OWN_CHANNELS)}


def _reader_of(store: Store) -> ModuleType | None:
    readers = (import_module(f"persistkit.agents.{name}") for name in _READERS)
    return next((reader for reader in readers if reader.recognises(store)), None)


def store_of(place: Place, taker: str) -> Store:
    """Return the store of what ``taker`` was given; raises TypeError as ``persistkit.background.engine_of``."""
    return place if isinstance(place, Store) else Store(engine_of(place, taker))
