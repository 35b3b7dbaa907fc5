"""Engine: bytes under text keys in blocking calls, the interface of every place to store, with its whole contract."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from logging import DEBUG
from threading import Lock
from typing import ClassVar, Final, Self

from persistkit.arguments import (
    MAX_KEY_BYTES,
    BytesLike,
    Items,
    check_key,
    check_keys,
    check_prefix,
    check_size,
    check_value,
    collect_items,
    shared_start,
)
from persistkit.batches import attempt_each
from persistkit.entry import Entry, sorted_out
from persistkit.errors import BatchError
from persistkit.locking import lease_attempts, locked
from persistkit.streaming import Streaming
from persistkit.trace import SILENT, Trace, logger, traced_iteration

__all__ = ["Engine"]


class Engine(Streaming):
    """Bytes under text keys, in blocking calls: the interface of every place to store.

    The public methods check their arguments, trace, and call the method of the same name with an underscore. An
    engine overrides ``_save``, ``_load``, ``_delete`` and ``_entries``; everything else has a default that works, and
    is overridden where an engine does better. To change what another engine does, hold it, do not inherit from it.

    The contract, for every engine:

    * A key is any text of at most 1,024 UTF-8 bytes without NUL or lone surrogates; anything else raises
      ``InvalidKeyError`` before any I/O. The empty text is a key. Two keys never share a value.
    * A value is ``bytes``, ``bytearray`` or ``memoryview``; anything else raises ``TypeError`` before any I/O.
      A value above ``max_value_bytes`` raises ``ValueTooLargeError`` before it is sent.
    * A missing key is never an error, and an error never looks like a missing key: when the storage refuses, is gone
      or does not answer in time, ``StorageError`` is raised.
    * After ``save`` returned, ``load`` gives that value or a later one. After it raised or the process died, ``load``
      gives the old value or the new one, whole.
    * A ``prefix`` is literal text that a key starts with, never a path segment or a pattern. Listings have no limit.
    * An engine may be used from any thread, and in a forked child, unless its docstring says otherwise.

    Every operation writes a debug record to the logger ``persistkit``: operation, key, bytes, milliseconds; no value.

    Attributes:
        max_value_bytes: the largest value the engine takes, or None when memory or disk is the only limit.
        blocks: whether operations wait for a disk or a server; if not, asynchronous code calls them without a thread.
        batch_is_transaction: whether a batch is stored or deleted as a whole or not at all.
        keeps_times: whether ``batch_save`` and ``open_writer`` take the time when a value was saved, for copies.
        concurrency: how many operations the engine works on at the same time with profit.
    """

    max_value_bytes: int | None = None
    blocks: ClassVar[bool] = True
    batch_is_transaction: ClassVar[bool] = False
    concurrency: int = 8

    # What an engine writes. Arguments come checked.

    @abstractmethod
    def _save(self, key: str, value: BytesLike) -> None: ...

    @abstractmethod
    def _load(self, key: str) -> bytes | None: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...

    @abstractmethod
    def _entries(self, prefix: str) -> Iterator[Entry]: ...

    # What an engine may do better.

    def _load_buffer(self, key: str) -> BytesLike | None:
        value = self._load(key)
        return None if value is None else bytes(value)  # an engine may keep, and give, a buffer: no copy of bytes

    def _load_cached(self, key: str) -> bytes | None:  # noqa: ARG002
        return None

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        self._attempt_each("batch_save", items, lambda key: self._save(key, items[key]))

    def _batch_save_at(self, items: dict[str, BytesLike], times: Mapping[str, datetime]) -> None:  # noqa: ARG002
        self._batch_save(items)

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        loaded: dict[str, bytes | None] = {}
        self._attempt_each("batch_load", dict.fromkeys(keys), lambda key: loaded.update({key: self._load(key)}))
        return [loaded[key] for key in keys]

    def _batch_delete(self, keys: list[str]) -> None:
        self._attempt_each("batch_delete", keys, self._delete)

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        with _compare_lock:
            same, kept = sorted_out(seen, self._entries(shared_start(seen)))
            self._batch_delete(same)
            return kept

    def _attempt_each(self, operation: str, keys: Iterable[str], work: Callable[[str], object]) -> None:
        attempt_each(operation, keys, work)

    def _list_keys(self, prefix: str) -> list[str]:
        # Text sorts by code point, and UTF-8 keeps that order in its bytes.
        return sorted(entry.key for entry in self._entries(prefix) if entry.key is not None)

    def _exists(self, key: str) -> bool:
        return self._load(key) is not None

    def _existing(self, keys: list[str]) -> set[str]:
        found: set[str] = set()
        self._attempt_each("existing", keys, lambda key: found.update([key] * self._exists(key)))
        return found

    def _key_count(self) -> int:
        return sum(1 for _ in self._entries(""))

    def _add(self, key: str, value: BytesLike) -> bool:
        with _compare_lock:
            if self._exists(key):
                return False
            self._save(key, value)
            return True

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        with _compare_lock:
            if self._load(key) != expected:
                return False
            self._save(key, value)
            return True

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        return lease_attempts(self, key)  # the others too are as lock_attempts describes

    def _rename(self, key: str, new_key: str) -> bool:
        value = self._load(key)
        if value is None or not self._add(new_key, value):
            return False
        with _compare_lock:
            if self._load(key) == value:  # or else somebody has saved a newer one, which stays
                self._delete(key)
        return True

    def _change_token(self) -> object | None:
        return None

    # What users call.

    def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, replacing what was there.

        Raises:
            InvalidKeyError: the key cannot be a key.
            TypeError: the value is not bytes-like.
            ValueTooLargeError: the value is larger than the engine takes.
            KeyCollisionError: another key owns the place of this one (engines that hash their names).
            StorageError: the storage refused, is full, is gone or did not answer.
        """
        value = self._checked(key, value)
        with _traced("save", key, len(value)):
            self._save(key, value)

    def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none.

        Raises:
            InvalidKeyError: the key cannot be a key.
            StorageError: the storage refused, is gone or did not answer.
        """
        _check_key(key)
        with _traced("load", key) as trace:
            return self._load(key) if trace is None else trace.sized(self._load(key))

    def load_buffer(self, key: str) -> BytesLike | None:
        """Return the value as ``load`` does; a large one perhaps in a writable buffer that belongs to the caller."""
        _check_key(key)
        with _traced("load", key) as trace:
            return self._load_buffer(key) if trace is None else trace.sized(self._load_buffer(key))

    def load_cached(self, key: str) -> bytes | None:
        """Return the value if it can be had at once, without waiting for a disk or a server; None says nothing.

        The value may be missing, large, or not in the system's cache. For event loops, which must not wait.
        """
        _check_key(key)
        with _traced("load_cached", key) as trace:
            return self._load_cached(key) if trace is None else trace.sized(self._load_cached(key))

    def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; no error when there is none. Raises as ``load``."""
        _check_key(key)
        with _traced("delete", key):
            self._delete(key)

    def batch_save(self, items: Items, *, times: Mapping[str, datetime] | None = None) -> None:
        """Store every value of ``items``, a mapping or an iterable of pairs; the last of a repeated key wins.

        All keys and values are checked before the first is stored. Then every item is attempted, unless the storage
        stops answering: what is left then fails without being tried.

        An engine that ``keeps_times`` stores a key that is in ``times`` as saved at that time, which must be aware. The
        time appears with the value, not after it.

        Raises:
            InvalidKeyError: one of the keys cannot be a key; nothing was stored.
            TypeError: one of the values is not bytes-like; nothing was stored.
            ValueTooLargeError: one of the values is larger than the engine takes; nothing was stored.
            BatchError: some items failed (``failures``). The others are stored; none is where ``batch_is_transaction``.
        """
        collected = collect_items(items, self.max_value_bytes)
        with _traced("batch_save", size=sum(map(len, collected.values()))):
            if collected and times and self.keeps_times:
                self._batch_save_at(collected, times)
            elif collected:
                self._batch_save(collected)

    def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, None where there is none.

        Raises:
            BatchError: some keys could not be read (``failures``).
        """
        checked = check_keys(keys)
        with _traced("batch_load") as trace:
            values = self._batch_load(checked) if checked else []
            if trace is not None:
                trace.size_bytes = sum(map(len, filter(None, values)))
            return values

    def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``; no error for those that have none.

        Raises:
            BatchError: some keys failed (``failures``). The others are gone; none is where ``batch_is_transaction``.
        """
        checked = list(dict.fromkeys(check_keys(keys)))
        with _traced("batch_delete"):
            if checked:
                self._batch_delete(checked)

    def delete_unchanged(self, seen: Iterable[Entry]) -> dict[str, str]:
        """Remove the values whose size and time are still those of their entries; return why each other one was kept.

        What is gone already counts as removed; an entry of unknown key is left alone. Comparing and removing are one
        atomic step, as ``add`` is, unless the engine's docstring says otherwise; this default lists and then removes,
        and what is saved in the moment between is lost. An engine that keeps no time can compare sizes only.

        Raises:
            StorageError: the storage refused, is gone or did not answer.
        """
        wanted = {entry.key: entry for entry in seen if entry.key is not None}
        with _traced("delete_unchanged"):
            try:
                return self._delete_unchanged(wanted) if wanted else {}
            except BatchError as error:
                return {key: str(reason) for key, reason in error.failures.items()}

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Iterate over everything stored whose key starts with ``prefix``, in the engine's order.

        An entry whose key cannot be known has key None and comes only when ``prefix`` is empty.

        Raises:
            ListingNotSupportedError: the backend behind this engine cannot list.
            StorageError: the storage refused, is gone or did not answer.
        """
        check_prefix(prefix)
        return traced_iteration("entries", prefix, self._entries(prefix))

    def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted by their UTF-8 bytes; raises as ``entries``."""
        check_prefix(prefix)
        with _traced("list_keys", prefix):
            return self._list_keys(prefix)

    def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``; raises as ``load``."""
        _check_key(key)
        with _traced("exists", key):
            return self._exists(key)

    def existing(self, keys: Iterable[str]) -> set[str]:
        """Return those of ``keys`` under which a value is stored; raises as ``batch_load``."""
        checked = list(dict.fromkeys(check_keys(keys)))
        with _traced("existing"):
            return self._existing(checked) if checked else set()

    def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included; raises as ``entries``."""
        with _traced("key_count"):
            return self._key_count()

    def add(self, key: str, value: BytesLike) -> bool:
        """Store ``value`` if nothing is stored under ``key``, in one atomic step; tell whether it was stored.

        Atomic among all processes and machines that use ``add`` and ``replace``, unless the engine's docstring says
        otherwise. This default is atomic among the threads of one process. Raises as ``save``.
        """
        value = self._checked(key, value)
        with _traced("add", key, len(value)):
            return self._add(key, value)

    def rename(self, key: str, new_key: str) -> bool:
        """Move the value of ``key`` to ``new_key`` if nothing is stored there; tell whether it was moved.

        Its time goes with it, where the engine can. The value is whole under ``new_key`` before ``key`` goes: whoever
        is interrupted finds it under one of them, or both. A value saved under ``key`` meanwhile stays there; in this
        default one that is saved in the moment before ``key`` goes is lost. Raises as ``save``.
        """
        _check_key(key)
        _check_key(new_key)
        with _traced("rename", key):
            return key != new_key and self._rename(key, new_key)

    def replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        """Store ``value`` if the bytes ``expected`` are stored under ``key`` now, in one atomic step; tell whether.

        Atomic as ``add`` is. Raises as ``save``.
        """
        value = self._checked(key, value)
        expected = check_value(key, expected)
        with _traced("replace", key, len(value)):
            return self._replace(key, value, expected)

    def lock(self, key: str, *, timeout_seconds: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock of ``key`` in a ``with`` block; everybody else who asks for it meanwhile waits.

        It holds between threads, processes and, on servers, machines, ends with the process that has it, and keeps
        nobody from loading and saving.

        This default is a lease, the value ``<key>.lock``, which is renewed every 5 seconds; another one takes it over
        when it stands still for 20. Two may have it at once where the first was stopped, or cut off, for so long.

        Args:
            key: what to lock; nothing need be stored there.
            timeout_seconds: how long to wait; None for as long as it takes.

        Raises:
            TimeoutError: somebody else still has it.
            RuntimeError: this thread has it already, and would wait for ever.
            StorageError: the storage refused, is gone or did not answer.
        """
        _check_key(key)
        return locked(self, key, timeout_seconds)

    def change_token(self) -> object | None:
        """Return a cheap token of the present content: equal tokens mean no change; None means it cannot be told."""
        with _traced("change_token"):
            return self._change_token()

    def close(self) -> None:
        """Give back what the engine holds, such as connections; using it again opens them anew."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _checked(self, key: str, value: BytesLike) -> BytesLike:
        _check_key(key)
        if type(value) is not bytes:
            value = check_value(key, value)
        if self.max_value_bytes is not None and len(value) > self.max_value_bytes:
            check_size(key, len(value), self.max_value_bytes)
        return value


def _check_key(key: str) -> None:
    if type(key) is not str or len(key) > MAX_KEY_BYTES or not key.isascii() or "\0" in key:
        check_key(key)


def _traced(operation: str, key: str | None = None, size: int | None = None) -> AbstractContextManager[Trace | None]:
    return Trace(operation, key, size) if _is_enabled(DEBUG) else SILENT  # as traced, without a call to another module


_is_enabled: Final = logger.isEnabledFor
# One for the process: what two engine objects over one place compare and store is in order too.
_compare_lock: Final = Lock()
