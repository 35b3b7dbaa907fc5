"""Bucket: one object store of obstore: its options, checked before obstore would panic over them, and its requests."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from errno import EHOSTUNREACH, ETIMEDOUT
from functools import partial
from typing import IO, Any, Final
from urllib.parse import urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from persistkit.batches import UNANSWERED
from persistkit.engines.addresses import bucket_url, cause_without, hidden
from persistkit.engines.objects.threads import run_in_thread
from persistkit.errors import StorageError

__all__ = ["PART_BYTES", "Bucket", "ObjectReader"]

PART_BYTES: Final = 8 * 1024 * 1024

_PAGE: Final = 1_000
_PARTS_AT_ONCE: Final = 3
_SMALL_BYTES: Final = 1024 * 1024
_SLOWEST_BYTES_PER_SECOND: Final = 1024 * 1024

_VARIABLES: Final = ("AWS_", "GOOGLE_", "AZURE_")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_SECRET: Final = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)
# The names of obstore's ClientConfig; among the store's own options each of them is a panic.
_CLIENT_OPTION: Final = re.compile(
    "allow_http|allow_invalid_certificates|(connect_|read_)?timeout|default_content_type|http1_only|"
    "http2_(keep_alive_(interval|timeout|while_idle)|max_frame_size|only)|pool_(idle_timeout|max_idle_per_host)|"
    "proxy_(ca_certificate|excludes|url)|randomize_addresses|user_agent",
    re.IGNORECASE,
)

_UNREACHABLE: Final = "error sending request"
# As servers say it, and as stores in memory do.
_OUT_OF_RANGE: Final = ("416 Range Not Satisfiable", "Wanted range starting at")
_NO_CREDENTIALS: Final = (
    "; no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass access_key_id and "
    "secret_access_key (they do not travel to workers), or skip_signature='true' for a public bucket"
)
# What a store most often answers, and the next step; the first two are where a cloud machine is asked for its keys.
_ADVICE: Final = {
    "/latest/api/token": _NO_CREDENTIALS,
    "/latest/meta-data": _NO_CREDENTIALS,
    _UNREACHABLE: "; look whether the server is up and reachable, and the endpoint is right",
    "NoSuchBucket": "; make the bucket first, or check its name",
    "403 Forbidden": "; look whether the credentials are right, and allow this",
}


class Bucket:
    """One object store of obstore.

    Every request takes first what is being tried, for the error; a missing object is ``None`` or nothing, a missing
    bucket is an error.

    Args:
        address: where; or a store of obstore, whose seven classes share no base class.
        timeout_seconds: for one request, new tries included; large values get a second more a MiB.
        options: of the store and of its HTTP client.

    Raises:
        TypeError: an option is neither text nor a bool.
        ValueError: the address or an option cannot be.

    Attributes:
        shown: the address, or the class of a store that was given.
        public_options: those that hold no secret.
    """

    def __init__(self, address: Any, timeout_seconds: float, options: Mapping[str, str | bool]) -> None:
        self._timeout_seconds = timeout_seconds
        self._is_seen = False
        self.shown = urlunsplit(bucket_url(address)) if isinstance(address, str) else type(address).__name__
        self.public_options = {name: value for name, value in options.items() if not _is_secret(name, value)}
        taken: dict[str, Any] = dict(options)
        for told in ("config", "client_options"):  # of a store that was given
            taken |= getattr(address, told, None) or {}
        taken |= {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
        self._secrets = {str(value) for name, value in taken.items() if _is_secret(name, value)}
        self._store = self._opened(options) if isinstance(address, str) else address

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

    def get_range(self, tried: str, name: str, start: int, size: int, e_tag: str | None = None) -> bytes | None:
        """Return a part of the object, empty beyond its end; with a tag, of this version and of no other."""
        options: Any = {"range": (start, start + size)} | ({"if_match": e_tag} if e_tag else {})
        part: bytes | None = self._find(
            tried, lambda: bytes(obstore.get(self._store, name, options=options).bytes()), size
        )
        return part

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
        try:
            return run_in_thread(work, self._timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND)
        except expected as error:
            return error
        except BaseException as error:
            if not isinstance(error, (BaseError, OSError, ValueError)) and not _is_panic(error):
                raise
            if any(text in str(error) for text in _OUT_OF_RANGE):
                return b""
            failure = self._failure(tried, error)
        raise failure  # outside of the except block: the store's error is the cause only if it tells no secret

    def _failure(self, tried: str, error: BaseException) -> StorageError:
        answer, number = str(error).strip(), None
        if isinstance(error, TimeoutError) or "TimedOut" in answer:
            reason = f"no answer within {self._timeout_seconds:g} s; look whether it is reachable"
            number = ETIMEDOUT
        elif isinstance(error, PreconditionError):
            reason = "it was replaced meanwhile; open it again"
        else:
            first_line = answer.partition("\n")[0].partition(": <?xml")[0]
            advice = next((advice for text, advice in _ADVICE.items() if text in answer), "")
            reason = hidden(first_line, self._secrets) + advice
            number = EHOSTUNREACH if _UNREACHABLE in answer else None
        failure = StorageError(f"{tried} in {self.shown!r}: {reason}", errno=number)
        failure.__cause__ = cause_without(error, self._secrets)
        return failure

    def _opened(self, options: Mapping[str, object]) -> Any:
        """Return the store of obstore, once the options are those that it does not panic over."""
        for name, value in options.items():
            if not isinstance(value, (str, bool)):
                kind = type(value).__name__
                raise TypeError(f"open {self.shown!r}: the option {name!r} is text, not {kind}; leave it out")
            if self.shown.startswith("s3:") and not str(value).isprintable():
                raise ValueError(
                    f"open {self.shown!r}: the option {name!r} holds a character that is not printable, such as the "
                    "end of a line it was read with; write .strip()"
                )
        endpoints = [str(value) for name, value in options.items() if "endpoint" in name.lower() and value]
        endpoints = endpoints or [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]
        for endpoint in endpoints:
            if "@" in endpoint:
                raise ValueError(
                    f"open {self.shown!r}: credentials do not belong in the endpoint; give them by options of their own"
                )
            if not endpoint.startswith(("http://", "https://")):
                raise ValueError(
                    f"an endpoint begins with http:// or https://, not {endpoint!r}; write https://{endpoint}"
                )
        limit = timedelta(seconds=self._timeout_seconds)
        allow_http = any(endpoint.startswith("http://") for endpoint in endpoints)
        client = {name: value for name, value in options.items() if _CLIENT_OPTION.fullmatch(name)}
        open_url: Any = from_url  # Any: its stub wants one of three typed dictionaries, by the scheme
        try:
            return open_url(
                self.shown.rstrip("/"),
                config={name: value for name, value in options.items() if name not in client} or None,
                client_options={"timeout": limit, "connect_timeout": limit, "allow_http": allow_http, **client},
                # obstore's own defaults try for three minutes.
                retry_config={
                    "max_retries": 3,
                    "retry_timeout": limit,
                    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
                },
            )
        except BaseException as error:
            if not isinstance(error, (BaseError, TypeError, ValueError)) and not _is_panic(error):
                raise
            reason = hidden(str(error).partition("\n")[0], self._secrets)
        raise ValueError(
            f"open {self.shown!r}: {reason}; options are those of obstore, such as endpoint, region, access_key_id, "
            "secret_access_key, proxy_url"
        )


class ObjectReader(io.RawIOBase):
    """One version of an object as a file; each read is one request.

    Args:
        bucket: where it is.
        tried: what is being tried, for the errors.
        name: of the object.
        meta: what ``Bucket.head`` told of it. Any: as there.
    """

    def __init__(self, bucket: Bucket, tried: str, name: str, meta: Any) -> None:
        self._read_range = partial(bucket.get_range, tried, name, e_tag=meta["e_tag"])
        self._removed = f"{tried} in {bucket.shown!r}: it was removed meanwhile"
        self._size: int = meta["size"]
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
        if part is None:
            raise StorageError(self._removed)
        self._position += len(part)
        return part


def _is_panic(error: BaseException) -> bool:
    """Tell whether an error is a panic of obstore, which is no ``Exception`` and cannot be imported."""
    return type(error).__name__ == "PanicException"


def _is_secret(name: str, value: object) -> bool:
    return bool(_SECRET.search(name)) or ("proxy" in name.lower() and "@" in str(value))
