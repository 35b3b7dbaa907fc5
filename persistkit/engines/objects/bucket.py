"""Bucket: the requests to one object store, each within its time, with errors that name what was tried."""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from errno import EHOSTUNREACH, ETIMEDOUT
from functools import partial
from typing import Any, Final, Never, TypeVar
from urllib.parse import SplitResult, urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from persistkit.backend import UNANSWERED
from persistkit.backends.addresses import bucket_url, hidden
from persistkit.backends.object_streams import PART_BYTES
from persistkit.errors import StorageError

__all__ = ["Bucket"]


def __dir__() -> list[str]:
    return __all__


T = TypeVar("T")

_SCHEMES: Final = ("s3", "gs", "az")
_VARIABLES: Final = ("AWS_", "GOOGLE_", "AZURE_")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_FAREWELL_SECONDS: Final = 0.02
_PAGE: Final = 1_000
_PARTS_AT_ONCE: Final = 3
_UNREACHABLE: Final = "error sending request"
_SLOWEST_BYTES_PER_SECOND: Final = 1024 * 1024
_SECRET: Final = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)

# obstore's runtime is one for the process, and its threads do not follow a fork.
_runtime_process: int | None = None


class Bucket:
    """One object store of obstore.

    Every method takes first what is being tried, for the error; a missing object is ``None`` or nothing, a missing
    bucket is an error.

    Args:
        address: of the bucket and prefix, or a store of obstore.
        timeout_seconds: for one request, new tries included; large values get a second more a MiB.
        options: obstore's configuration.
    """

    def __init__(self, address: Any, timeout_seconds: float, options: dict[str, str]) -> None:
        # Any: an address or any of obstore's seven store classes, which share no base class.
        self.place = urlunsplit(_url(address)) if isinstance(address, str) else type(address).__name__
        self.public_options = {name: value for name, value in options.items() if not _SECRET.search(name)}
        named = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)} | options
        self._secrets = [str(value) for name, value in named.items() if _SECRET.search(name)]
        self._timeout_seconds = timeout_seconds
        self._store: Any = _opened(address, timeout_seconds, options) if isinstance(address, str) else address
        self._seen = False

    async def get(self, tried: str, name: str) -> bytes | None:
        """Return the object's content."""

        async def work() -> bytes:
            result = await obstore.get_async(self._store, name)
            async with asyncio.timeout(result.meta["size"] / _SLOWEST_BYTES_PER_SECOND + self._timeout_seconds):
                return bytes(await result.bytes_async())

        try:
            return await self._ask(tried, work, None)
        except FileNotFoundError as error:
            await self._see(tried, error)
            return None

    async def head(self, tried: str, name: str) -> Any | None:
        """Return the object's size, time and tag. Any: a typed dictionary of obstore's stubs only."""
        try:
            return await self._ask(tried, partial(obstore.head_async, self._store, name))
        except FileNotFoundError as error:
            await self._see(tried, error)
            return None

    async def get_range(self, tried: str, name: str, meta: Any, start: int, size: int) -> bytes:
        """Return a part of the object that ``head`` told about."""
        options: Any = {"range": (start, min(start + size, meta["size"]))}
        if meta["e_tag"]:
            options["if_match"] = meta["e_tag"]

        async def work() -> bytes:
            result = await obstore.get_async(self._store, name, options=options)
            return bytes(await result.bytes_async())

        try:
            return await self._ask(tried, work, size)
        except (PreconditionError, FileNotFoundError) as error:
            raise StorageError(f"{tried} in {self.place!r}: it was replaced meanwhile; open it again") from error

    async def put(self, tried: str, name: str, value: bytes) -> None:
        """Store the object, in several parts at once when it is large."""
        put = partial(
            obstore.put_async, self._store, name, value, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )
        try:
            await self._ask(tried, put, len(value))
        except FileNotFoundError as error:
            self._refuse(tried, error)

    async def put_new(self, tried: str, name: str, value: bytes) -> bool:
        """Store the object unless there is one; tell whether there was none."""
        try:
            await self._ask(tried, partial(obstore.put_async, self._store, name, value, mode="create"))
        except AlreadyExistsError:
            return False
        except FileNotFoundError as error:
            self._refuse(tried, error)
        return True

    async def upload(self, tried: str, name: str, parts: AsyncIterator[bytes]) -> None:
        """Store the object from parts as they come, each within the client's own time for a request."""
        self._check_process(tried)
        try:
            await obstore.put_async(
                self._store, name, parts, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
        except BaseError as error:
            self._refuse(tried, error)

    async def remove(self, tried: str, name: str) -> None:
        """Remove the object if it is there."""
        try:
            await self._ask(tried, partial(obstore.delete_async, self._store, name))
        except FileNotFoundError as error:
            await self._see(tried, error)

    async def remove_all(self, tried: str, names: Iterable[str]) -> bool:
        """Remove a thousand objects by one request; False when some could not be, whichever."""
        try:
            await self._ask(tried, partial(obstore.delete_async, self._store, list(names)))
        except FileNotFoundError:
            return False
        except StorageError as error:
            if error.errno in UNANSWERED:
                raise
            return False
        return True

    async def objects(self, tried: str) -> dict[str, tuple[int, datetime]]:
        """Return size and time of every object directly under the prefix, by name."""
        objects: dict[str, tuple[int, datetime]] = {}
        listing = obstore.list(self._store, chunk_size=_PAGE).__aiter__()
        while page := await self._ask(tried, partial(anext, listing, None)):
            objects.update(
                (found["path"], (found["size"], found["last_modified"])) for found in page if "/" not in found["path"]
            )
        return objects

    async def _see(self, tried: str, error: FileNotFoundError) -> None:
        """See once that the bucket is there: a missing bucket answers like a missing object."""
        if "NoSuchBucket" in str(error):
            self._refuse(tried, error)
        if not self._seen:
            listing = obstore.list(self._store, chunk_size=1).__aiter__()
            try:
                await self._ask(tried, partial(anext, listing, None))
            except FileNotFoundError as missing:
                self._refuse(tried, missing)
            self._seen = True

    async def _ask(self, tried: str, work: Callable[[], Awaitable[T]], size: int | None = 0) -> T:
        """Await one request; what the caller must tell apart (found, exists, replaced) comes as obstore's error."""
        self._check_process(tried)
        limit = None if size is None else self._timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(limit):
                return await work()
        except (FileNotFoundError, AlreadyExistsError, PreconditionError):
            raise
        except TimeoutError as error:
            raise StorageError(
                f"{tried} in {self.place!r}: no answer within {self._timeout_seconds:g} s; "
                "look whether it is reachable",
                errno=ETIMEDOUT,
            ) from error
        except (BaseError, OSError) as error:
            self._refuse(tried, error)

    def _check_process(self, tried: str) -> None:
        global _runtime_process
        if _runtime_process is None:
            _runtime_process = os.getpid()
            # obstore's threads still drop what they handed over when the last answer is there; one that wants the
            # interpreter while it ends aborts the process, one exit in ten.
            atexit.register(time.sleep, _FAREWELL_SECONDS)
        elif _runtime_process != os.getpid():
            raise StorageError(
                f"{tried} in {self.place!r}: a forked child cannot use object stores; start processes with 'spawn'"
            )

    def _refuse(self, tried: str, error: Exception) -> Never:
        answer = str(error).strip()
        reason = hidden(answer.partition("\n")[0].partition(": <?xml")[0], self._secrets)
        # A store may answer with what it was asked with, and a traceback tells the cause too.
        cause = error if hidden(str(error), self._secrets) == str(error) else None
        unreachable = EHOSTUNREACH if _UNREACHABLE in answer else None
        raise StorageError(f"{tried} in {self.place!r}: {reason}{_advice(answer)}", errno=unreachable) from cause


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


def _url(address: str) -> SplitResult:
    url = bucket_url(address)
    if url.scheme not in _SCHEMES:
        raise ValueError(f"an address begins with s3://, gs:// or az://, such as s3://bucket/prefix, not {url.scheme}:")
    return url


def _check_options(place: str, options: dict[str, str]) -> None:
    """Refuse what obstore would answer without the option's name, or with a panic at the first request."""
    for name, value in options.items():
        if not isinstance(value, (str, bool)):
            raise TypeError(f"open {place!r}: the option {name!r} is text, not {type(value).__name__}; leave it out")
        if place.startswith("s3:") and not str(value).isprintable():
            raise ValueError(
                f"open {place!r}: the option {name!r} holds a character that is not printable, such as the end of a "
                "line it was read with; write .strip()"
            )


def _opened(address: str, timeout_seconds: float, options: dict[str, str]) -> Any:
    place = urlunsplit(_url(address))
    open_url: Any = from_url  # Any: its stub wants one of three typed dictionaries, by the scheme
    _check_options(place, options)
    endpoints = [value for name, value in options.items() if "endpoint" in name.lower() and value]
    endpoints = endpoints or [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]
    for endpoint in endpoints:
        if "@" in endpoint:
            raise ValueError(
                f"open {place!r}: credentials do not belong in the endpoint; give them by options of their own"
            )
        # obstore would panic with the first request.
        if not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"an endpoint begins with http:// or https://, not {endpoint!r}; write https://{endpoint}")
    try:
        return open_url(
            place.rstrip("/"),
            config=options or None,
            client_options={
                "timeout": timedelta(seconds=timeout_seconds),
                "connect_timeout": timedelta(seconds=timeout_seconds),
                "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
            },
            # obstore's own defaults try for three minutes.
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=timeout_seconds),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
        )
    except BaseError as error:
        raise ValueError(
            f"open {place!r}: {str(error).partition(chr(10))[0]}; options are those of obstore, such as "
            "endpoint, region, access_key_id, secret_access_key"
        ) from None
