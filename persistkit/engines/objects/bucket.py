"""Bucket: the requests to one object store, each within its time, with errors that name what was tried."""

from __future__ import annotations

import atexit
import io
import os
import time
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import datetime
from errno import EHOSTUNREACH, ETIMEDOUT
from functools import partial
from queue import SimpleQueue
from threading import get_ident, main_thread
from typing import IO, Any, Final, TypeAlias

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from persistkit.batches import UNANSWERED
from persistkit.engines.addresses import cause_without, hidden
from persistkit.engines.objects.options import Place, is_panic
from persistkit.errors import StorageError

__all__ = ["GRACE_SECONDS", "PART_BYTES", "Bucket", "ObjectReader"]

PART_BYTES: Final = 8 * 1024 * 1024

_PAGE: Final = 1_000
GRACE_SECONDS: Final = 1.0
_EXIT_SECONDS: Final = 0.02
_PARTS_AT_ONCE: Final = 3
_SMALL_BYTES: Final = 1024 * 1024
_SLOWEST_BYTES_PER_SECOND: Final = 1024 * 1024
_UNREACHABLE: Final = "error sending request"
# As servers say it, and as stores in memory do.
_OUT_OF_RANGE: Final = ("416 Range Not Satisfiable", "Wanted range starting at")

_Tasks: TypeAlias = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
_idle: Final[list[_Tasks]] = []  # one for each thread without work
_running: Final[set[Future[Any]]] = set()

# obstore's runtime is one for the process, and its threads do not follow a fork.
_runtime_process: int | None = None


class Bucket:
    """One object store of obstore, whose calls run in threads: they do not answer Ctrl-C.

    Every method takes first what is being tried, for the error; a missing object is ``None`` or nothing, a missing
    bucket is an error.

    Args:
        place: where, with the store of obstore and what is secret about it.
        timeout_seconds: for one request, new tries included; large values get a second more a MiB.
    """

    def __init__(self, place: Place, timeout_seconds: float) -> None:
        self._place = place
        self._store = place.store
        self._timeout_seconds = timeout_seconds
        self._is_seen = False

    def get(self, tried: str, name: str) -> bytes | None:
        """Return the object's content."""
        found = self.get_version(tried, name)
        return None if found is None else found[0]

    def get_version(self, tried: str, name: str) -> tuple[bytes, str | None] | None:
        """Return the object's content and the tag of this version of it."""

        def begin() -> tuple[Any, bytes | None]:
            result = obstore.get(self._store, name)
            return result, bytes(result.bytes()) if result.meta["size"] <= _SMALL_BYTES else None

        answer = self._find(tried, begin)
        if answer is None:
            return None
        result, content = answer
        if content is None:
            content = self._ask(tried, lambda: bytes(result.bytes()), result.meta["size"])
        return content, result.meta["e_tag"]

    def head(self, tried: str, name: str) -> Any | None:
        """Return the object's size, time and tag. Any: a typed dictionary of obstore's stubs only."""
        return self._find(tried, partial(obstore.head, self._store, name))

    def get_range(self, tried: str, name: str, start: int, size: int) -> bytes | None:
        """Return a part of the object, empty beyond its end."""
        options: Any = {"range": (start, start + size)}
        part: bytes | None = self._find(
            tried, lambda: bytes(obstore.get(self._store, name, options=options).bytes()), size
        )
        return part

    def get_range_of_version(self, tried: str, name: str, start: int, size: int, e_tag: str | None) -> bytes:
        """Return a part of this version of the object, and of no other."""
        options: Any = {"range": (start, start + size)} | ({"if_match": e_tag} if e_tag else {})
        part = self._ask(
            tried,
            lambda: bytes(obstore.get(self._store, name, options=options).bytes()),
            size,
            (PreconditionError, FileNotFoundError),
        )
        if isinstance(part, Exception):
            raise StorageError(f"{tried} in {self._place.shown!r}: it was replaced meanwhile; open it again")
        return bytes(part)

    def put(self, tried: str, name: str, value: bytes | IO[bytes], size: int) -> None:
        """Store the object, in several parts at once when it is large."""
        put = partial(obstore.put, self._store, name, value, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        self._ask(tried, put, size)

    def put_if(self, tried: str, name: str, value: bytes, e_tag: str | None = None) -> bool:
        """Store the object if there is none, or with a tag, if that version is there; tell whether it was."""
        mode: Any = {"e_tag": e_tag} if e_tag else "create"
        put = partial(obstore.put, self._store, name, value, mode=mode)
        return not isinstance(self._ask(tried, put, len(value), (AlreadyExistsError, PreconditionError)), Exception)

    def remove(self, tried: str, name: str) -> None:
        """Remove the object if it is there."""
        self._find(tried, partial(obstore.delete, self._store, name))

    def remove_all(self, tried: str, names: list[str]) -> bool:
        """Remove a thousand objects by one request; False when some could not be, whichever."""
        try:
            self._ask(tried, partial(obstore.delete, self._store, names))
        except StorageError as error:
            if error.errno in UNANSWERED:
                raise
            return False
        return True

    def objects(self, tried: str) -> dict[str, tuple[int, datetime]]:
        """Return size and time of every object directly under the prefix, by name."""
        objects: dict[str, tuple[int, datetime]] = {}
        listing = iter(obstore.list(self._store, chunk_size=_PAGE))
        while page := self._ask(tried, partial(next, listing, None)):
            objects.update(
                (found["path"], (found["size"], found["last_modified"])) for found in page if "/" not in found["path"]
            )
        return objects

    # Any: what obstore answers.
    def _find(self, tried: str, work: Callable[[], Any], size: int = 0) -> Any | None:
        """Return the answer about an object, None when it is missing, and raise when the bucket is missing."""
        answer = self._ask(tried, work, size, (FileNotFoundError,))
        if not isinstance(answer, FileNotFoundError):
            return answer
        if "NoSuchBucket" in str(answer):
            raise self._failure(tried, answer)
        if not self._is_seen:  # some stores answer of a missing bucket as of a missing object
            self._ask(tried, partial(next, iter(obstore.list(self._store, chunk_size=1)), None))
            self._is_seen = True
        return None

    def _ask(
        self, tried: str, work: Callable[[], Any], size: int = 0, expected: tuple[type[Exception], ...] = ()
    ) -> Any:
        """Return the answer to one request; an error that is ``expected`` is an answer too."""
        self._check_process(tried)
        try:
            return _run_in_thread(work, self._timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND)
        except expected as error:
            return error
        except (BaseError, OSError, ValueError) as error:
            if any(text in str(error) for text in _OUT_OF_RANGE):
                return b""
            failure = self._failure(tried, error)
        except BaseException as error:
            if not is_panic(error):
                raise
            failure = self._failure(tried, error)
        raise failure  # outside of the except blocks: the store's error is the cause only if it tells no secret

    def _check_process(self, tried: str) -> None:
        global _runtime_process
        if _runtime_process is None:
            _runtime_process = os.getpid()
            atexit.register(_end, _runtime_process)
        elif _runtime_process != os.getpid():
            raise StorageError(
                f"{tried} in {self._place.shown!r}: a forked child cannot use object stores; "
                "start processes with 'spawn'"
            )

    def _failure(self, tried: str, error: BaseException) -> StorageError:
        answer = str(error).strip()
        if isinstance(error, TimeoutError) or "TimedOut" in answer:
            reason = f"no answer within {self._timeout_seconds:g} s; look whether it is reachable"
            number: int | None = ETIMEDOUT
        else:
            first_line = answer.partition("\n")[0].partition(": <?xml")[0]
            reason = hidden(first_line, self._place.secrets) + _advice(answer)
            number = EHOSTUNREACH if _UNREACHABLE in answer else None
        failure = StorageError(f"{tried} in {self._place.shown!r}: {reason}", errno=number)
        failure.__cause__ = cause_without(error, self._place.secrets)
        return failure


class ObjectReader(io.RawIOBase):
    """An object of ``size`` bytes as a file: ``read_range(start, size)`` is one request."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range = read_range
        self._size = size
        self._position = 0

    def readable(self) -> bool:  # noqa: D102 - as every file
        return True

    def seekable(self) -> bool:  # noqa: D102 - as every file
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102 - as every file
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        if position < 0:
            raise ValueError(f"a position is 0 or later, not {position}")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:  # noqa: D102 - as every file; Any: every writable buffer
        part = self._read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def readall(self) -> bytes:
        """Return the whole rest, by one request."""
        return self._read(self._size)

    def _read(self, most: int) -> bytes:
        wanted = min(most, self._size - self._position)
        part = self._read_range(self._position, wanted) if wanted > 0 else b""
        self._position += len(part)
        return part


def _run_in_thread(work: Callable[[], Any], limit_seconds: float) -> Any:
    """Return what ``work`` returns; interrupted, give it a second to end, so that mostly nothing happens afterwards.

    Only the main thread is interrupted: in any other the work is done at once.
    """
    future: Future[Any] = Future()
    _running.add(future)
    future.add_done_callback(_running.discard)
    if get_ident() != main_thread().ident:
        _finish(future, work)
        return future.result()
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        try:
            start_new_thread(_work, (tasks,))  # no process waits for it when it ends, as for those of an executor
        except RuntimeError as error:
            _running.discard(future)
            raise StorageError(
                f"ask the object store: it needs a thread: {error}; files and SQLite need none"
            ) from error
    tasks.put((future, work))
    try:
        return future.result(limit_seconds)
    except BaseException as error:
        if not isinstance(error, Exception):
            wait([future], GRACE_SECONDS)
        raise
    finally:
        if future.done():
            _idle.append(tasks)
        else:
            tasks.put(None)  # the thread that hangs ends when it can


def _work(tasks: _Tasks) -> None:
    while (task := tasks.get()) is not None:
        _finish(*task)
        del task  # an idle thread keeps no value


def _finish(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _end(process: int) -> None:
    """Wait for the last requests, and until obstore's threads have dropped what was handed to them.

    A thread of obstore that asks for the interpreter while it ends aborts the process: one exit in ten without this.
    """
    if process == os.getpid():
        wait(list(_running), GRACE_SECONDS)
        time.sleep(_EXIT_SECONDS)


def _advice(answer: str) -> str:
    """Return the next step for what a store most often answers."""
    # Where the keys of a cloud machine are asked for.
    if "/latest/api/token" in answer or "/latest/meta-data" in answer:
        return (
            "; no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass access_key_id and "
            "secret_access_key (they do not travel to workers), or skip_signature='true' for a public bucket"
        )
    if _UNREACHABLE in answer:
        return "; look whether the server is up and reachable, and the endpoint is right"
    if "NoSuchBucket" in answer:
        return "; make the bucket first, or check its name"
    if "403 Forbidden" in answer:
        return "; look whether the credentials are right, and allow this"
    return ""
