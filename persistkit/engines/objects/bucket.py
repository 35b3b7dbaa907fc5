"""Bucket: the requests to one object store, each within its time, with errors that name what was tried."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime
from errno import EHOSTUNREACH, ETIMEDOUT
from functools import partial
from typing import IO, Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from persistkit.batches import UNANSWERED
from persistkit.engines.addresses import cause_without, hidden
from persistkit.engines.objects.options import Place, is_panic
from persistkit.engines.objects.threads import CallThreads
from persistkit.errors import StorageError

__all__ = ["PART_BYTES", "Bucket"]

PART_BYTES: Final = 8 * 1024 * 1024

_PAGE: Final = 1_000
_PARTS_AT_ONCE: Final = 3
_SMALL_BYTES: Final = 1024 * 1024
_SLOWEST_BYTES_PER_SECOND: Final = 1024 * 1024
_UNREACHABLE: Final = "error sending request"
# As servers say it, and as stores in memory do.
_OUT_OF_RANGE: Final = ("416 Range Not Satisfiable", "Wanted range starting at")

# obstore's runtime is one for the process, and its threads do not follow a fork.
_runtime_process: int | None = None


class Bucket:
    """One object store of obstore, whose calls run in threads: they do not answer Ctrl-C.

    Every method takes first what is being tried, for the error; a missing object is ``None`` or nothing, a missing
    bucket is an error.

    Args:
        place: where, with the store of obstore and what is secret about it.
        timeout_seconds: for one request, new tries included; large values get a second more a MiB.
        threads: those that wait for the answers.
    """

    def __init__(self, place: Place, timeout_seconds: float, threads: CallThreads) -> None:
        self._place = place
        self._store = place.store
        self._timeout_seconds = timeout_seconds
        self._call_threads = threads
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

        answer = self._ask(tried, begin)
        if isinstance(answer, FileNotFoundError):
            self._see(tried, answer)
            return None
        result, content = answer
        if content is None:
            content = self._ask(tried, lambda: bytes(result.bytes()), result.meta["size"])
        return content, result.meta["e_tag"]

    def head(self, tried: str, name: str) -> Any | None:
        """Return the object's size, time and tag. Any: a typed dictionary of obstore's stubs only."""
        answer = self._ask(tried, partial(obstore.head, self._store, name))
        if isinstance(answer, FileNotFoundError):
            self._see(tried, answer)
            return None
        return answer

    def get_range(self, tried: str, name: str, start: int, size: int, e_tag: str | None = None) -> Any:
        """Return a part of the object, empty beyond its end; with a tag, of this version of it only."""
        options: Any = {"range": (start, start + size)}
        if e_tag:
            options["if_match"] = e_tag
        answer = self._ask(tried, lambda: bytes(obstore.get(self._store, name, options=options).bytes()), size)
        if e_tag and isinstance(answer, (PreconditionError, FileNotFoundError)):
            raise StorageError(f"{tried} in {self._place.shown!r}: it was replaced meanwhile; open it again")
        if isinstance(answer, FileNotFoundError):
            self._see(tried, answer)
            return None
        return answer

    def put(self, tried: str, name: str, value: bytes | IO[bytes], size: int) -> None:
        """Store the object, in several parts at once when it is large."""
        put = partial(obstore.put, self._store, name, value, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        answer = self._ask(tried, put, size)
        if isinstance(answer, Exception):
            raise self._failure(tried, answer)

    def put_if(self, tried: str, name: str, value: bytes, e_tag: str | None = None) -> bool:
        """Store the object if there is none, or with a tag, if that version is there; tell whether it was."""
        mode: Any = {"e_tag": e_tag} if e_tag else "create"
        answer = self._ask(tried, partial(obstore.put, self._store, name, value, mode=mode), len(value))
        if isinstance(answer, (AlreadyExistsError, PreconditionError)):
            return False
        if isinstance(answer, Exception):
            raise self._failure(tried, answer)
        return True

    def remove(self, tried: str, name: str) -> None:
        """Remove the object if it is there."""
        answer = self._ask(tried, partial(obstore.delete, self._store, name))
        if isinstance(answer, FileNotFoundError):
            self._see(tried, answer)

    def remove_all(self, tried: str, names: Iterable[str]) -> bool:
        """Remove a thousand objects by one request; False when some could not be, whichever."""
        try:
            answer = self._ask(tried, partial(obstore.delete, self._store, list(names)))
        except StorageError as error:
            if error.errno in UNANSWERED:
                raise
            return False
        return not isinstance(answer, Exception)

    def objects(self, tried: str) -> dict[str, tuple[int, datetime]]:
        """Return size and time of every object directly under the prefix, by name."""
        objects: dict[str, tuple[int, datetime]] = {}
        listing = iter(obstore.list(self._store, chunk_size=_PAGE))
        while page := self._ask(tried, partial(next, listing, None)):
            if isinstance(page, Exception):
                raise self._failure(tried, page)
            objects.update(
                (found["path"], (found["size"], found["last_modified"])) for found in page if "/" not in found["path"]
            )
        return objects

    def _see(self, tried: str, missing: FileNotFoundError) -> None:
        """See once that the bucket is there: a missing bucket answers like a missing object."""
        if "NoSuchBucket" in str(missing):
            raise self._failure(tried, missing)
        if not self._is_seen:
            listing = iter(obstore.list(self._store, chunk_size=1))
            answer = self._ask(tried, partial(next, listing, None))
            if isinstance(answer, Exception):
                raise self._failure(tried, answer)
            self._is_seen = True

    # Any: what obstore answers, as work for a thread of its own.
    def _ask(self, tried: str, work: Callable[[], Any], size: int = 0) -> Any:
        """Return the answer to one request; missing, existing and replaced objects as obstore's errors."""
        self._check_process(tried)
        try:
            return self._call_threads.run(work, self._timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND)
        except (FileNotFoundError, AlreadyExistsError, PreconditionError) as error:
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
