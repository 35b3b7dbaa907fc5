"""ObjectPersistenceBackend: values as objects of S3, Google Cloud or Azure, under the filenames they have on disk."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from persistkit.backend import Entry, PersistenceBackend, Reader, Writer, raise_failures
from persistkit.errors import KeyCollisionError, PersistenceError, StorageError
from persistkit.filenames import claim_name_for, filename_for, is_filename, keys_for, needs_claim
from persistkit.operations import BytesLike, check_key, check_value

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
    from obstore.store import from_url
except ImportError as error:
    raise ImportError('object stores need one more package: pip install "persistkit[s3]"') from error

__all__ = ["ObjectPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


T = TypeVar("T")

_SCHEMES: Final = ("s3", "gs", "az")
_PAGE: Final = 1_000
_PART_BYTES: Final = 16 * 1024 * 1024
_PARTS: Final = 10_000
_SLOWEST_BYTES_PER_SECOND: Final = 1024 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED: Final = re.compile(r"%(0[0-9A-F]|1[0-9A-F]|7F)")
_SECRET: Final = re.compile(r"key|secret|token|password|credential|sas", re.IGNORECASE)

# obstore's runtime is one for the process, and its threads do not follow a fork.
_runtime_process: int | None = None


class ObjectPersistenceBackend(PersistenceBackend):
    """One object a key, named as the file would be: ``<prefix>/<sanitized key>-<djb2 hash>.bin``.

    A directory of ``FilePersistenceBackend`` copied to a bucket, companions included, is a working store, and the
    other way round. Control characters, which object stores refuse, are written ``%0A``; the hash tells the two
    readings apart.

    Promises, beyond ``PersistenceBackend``:

    * A save that returned was acknowledged by the store, and is as durable as the store says. Readers see the old
      object or the new one, whole.
    * Two keys never share a value: keys whose name could be another's hold a *claim*, the companion ``.key``, made by
      a conditional put, which the store must offer (S3, Google Cloud, Azure, SeaweedFS and MinIO do).
    * A request that was cancelled or got no answer may still land, old or new, whole.
    * Readers and writers stream in constant memory. A reader whose object is replaced meanwhile raises.
    * Listing asks for every object under the prefix, whatever the key's prefix, and holds their names in memory.

    S3 is tested against SeaweedFS; ``gs://`` and ``az://`` share the code and are unverified. A forked child cannot
    use it: start processes with ``spawn``.

    Args:
        address: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``; or a store of obstore.
        timeout_seconds: how long one request may take, new tries included; large values get a second more a MiB.
        options: obstore's configuration: ``endpoint``, ``region``, ``access_key_id``, ``secret_access_key``, ...;
            what is not given comes from the environment (``AWS_ACCESS_KEY_ID``, ...). Never shown; secrets are never
            pickled.

    Raises:
        ValueError: the address or an option is unknown.

    Example:
        >>> import asyncio
        >>> from obstore.store import MemoryStore
        >>> backend = ObjectPersistenceBackend(MemoryStore())
        >>> asyncio.run(backend.save("session:1", b"state"))
        >>> asyncio.run(backend.list_keys())
        ['session:1']
    """

    def __init__(self, address: Any, *, timeout_seconds: float = 30.0, **options: str) -> None:
        # Any: an address or any of obstore's seven store classes, which share no base class.
        self.max_value_bytes = _PART_BYTES * _PARTS
        self._address = address
        self._options = options
        self._timeout_seconds = timeout_seconds
        self._store: Any = _opened(address, timeout_seconds, options) if isinstance(address, str) else address
        self._seen = False

    def __repr__(self) -> str:
        place = _shown(self._address) if isinstance(self._address, str) else type(self._address).__name__
        return f"ObjectPersistenceBackend({place!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if not isinstance(self._address, str):
            raise TypeError(
                f"pickle {self!r}: a store of obstore would take its credentials along, or cannot go at all; "
                "open it by its address, such as s3://bucket/prefix"
            )
        public = {name: value for name, value in self._options.items() if not _SECRET.search(name)}
        again = partial(type(self), timeout_seconds=self._timeout_seconds, **public)
        return again, (_shown(self._address),)

    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, in several parts at once when it is large."""
        if needs_claim(key):
            await self._claim(key)
        await self._put(f"save {key!r}", object_name(filename_for(key)), bytes(value))

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        value = await self._get(f"load {key!r}", object_name(filename_for(key)))
        return None if value is None or await self._is_anothers(key) else value

    async def load_filename(self, filename: str) -> bytes | None:
        """Return the value under ``filename``, as an entry of unknown key tells it; None when there is none."""
        if not is_filename(filename) or "/" in filename:
            raise StorageError(f"load the object {filename!r} in {self!r}: not the name of a value")
        return await self._get(f"load the object {filename!r}", object_name(filename))

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; its claim stays, so that no other key slips in."""
        if await self._is_anothers(key):
            return
        await self._remove(f"delete {key!r}", object_name(filename_for(key)))

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``, a thousand a request where no claim has a say."""
        pending = list(dict.fromkeys(keys))
        failures: dict[str, Exception] = {}
        plain = iter([key for key in pending if not needs_claim(key)])
        alone = [key for key in pending if needs_claim(key)]
        while part := list(islice(plain, _PAGE)):
            names = [object_name(filename_for(key)) for key in part]
            try:
                await self._ask(f"delete {len(part):,} keys", partial(obstore.delete_async, self._store, names))
            except (FileNotFoundError, StorageError):
                # One answer for a thousand keys: asked again one by one, each tells its own.
                alone += part
        try:
            await self._attempt("batch_delete", alone, self.delete)
        except PersistenceError as error:
            failures.update(getattr(error, "failures", {}))
        raise_failures("batch_delete", len(pending), failures)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, without reading it."""
        name = object_name(filename_for(key))
        try:
            await self._ask(f"look for {key!r}", partial(obstore.head_async, self._store, name))
        except FileNotFoundError as error:
            await self._see(f"look for {key!r}", error)
            return False
        return not await self._is_anothers(key)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate over what was stored when the iteration began."""
        objects, keys = await self._listed()
        for name, (filename, key, ambiguous) in keys.items():
            if not prefix or (key is not None and key.startswith(prefix)):
                size, modified = objects[name]
                yield Entry(key, size, modified, filename, ambiguous)

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the known keys that start with ``prefix``, sorted by their UTF-8 bytes."""
        _, keys = await self._listed()
        return sorted(key for _, key, _ in keys.values() if key is not None and key.startswith(prefix))

    async def key_count(self) -> int:
        """Return how many values are stored, those of unknown keys included."""
        return sum(is_filename(name) for name in await self._objects())

    def open_reader(self, key: str) -> AbstractAsyncContextManager[Reader | None]:
        """Open the value of ``key`` for reading in chunks, each one request."""
        check_key(key)
        return self._reader(key)

    def open_writer(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Open the value of ``key`` for writing in chunks; above 16 MiB they are uploaded as they come."""
        check_key(key)
        return self._writer(key)

    @asynccontextmanager
    async def _reader(self, key: str) -> AsyncIterator[Reader | None]:
        name = object_name(filename_for(key))
        try:
            meta = await self._ask(f"open {key!r}", partial(obstore.head_async, self._store, name))
        except FileNotFoundError as error:
            await self._see(f"open {key!r}", error)
            yield None
            return
        yield None if await self._is_anothers(key) else _ObjectReader(partial(self._range, key, name, meta), meta)

    @asynccontextmanager
    async def _writer(self, key: str) -> AsyncIterator[Writer]:
        if needs_claim(key):
            await self._claim(key)
        name = object_name(filename_for(key))
        writer = _ObjectWriter(key, lambda parts: self._upload(key, name, parts))
        try:
            yield writer
        except BaseException:
            await writer.abort()
            raise
        rest = await writer.finish()
        if rest is not None:
            await self._put(f"save {key!r}", name, rest)

    async def _upload(self, key: str, name: str, parts: AsyncIterator[bytes]) -> None:
        # No limit of time around the whole: each part is a request, with the client's own timeout.
        try:
            await obstore.put_async(
                self._store, name, parts, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=4
            )
        except BaseError as error:
            raise self._refused(f"save {key!r}", error) from error

    async def _range(self, key: str, name: str, meta: Any, start: int, size: int) -> bytes:
        options: Any = {"range": (start, min(start + size, meta["size"]))}
        if meta["e_tag"]:
            options["if_match"] = meta["e_tag"]

        async def work() -> bytes:
            result = await obstore.get_async(self._store, name, options=options)
            return bytes(await result.bytes_async())

        try:
            return await self._ask(f"read {key!r}", work, size)
        except (PreconditionError, FileNotFoundError) as error:
            raise StorageError(f"read {key!r} in {self!r}: it was replaced meanwhile; open it again") from error

    # -- claims --------------------------------------------------------------------------------------------------

    async def _claim(self, key: str) -> None:
        """Make the companion that says the name is this key's, unless another key has it."""
        filename = filename_for(key)
        tried, companion = f"save {key!r}", object_name(claim_name_for(filename))
        holder = await self._get(tried, companion)
        if holder is None:
            (reading,) = keys_for([filename])
            if len(reading.keys) == 1 and reading.keys[0] != key:
                raise self._collision(key, filename, reading.keys[0])
            try:
                put = partial(obstore.put_async, self._store, companion, key.encode(), mode="create")
                await self._ask(tried, put)
            except AlreadyExistsError:
                holder = await self._get(tried, companion)
            except FileNotFoundError as error:
                raise self._refused(tried, error) from error
            else:
                return
        if holder != key.encode():
            raise self._collision(key, filename, (holder or b"").decode(errors="replace"))

    async def _is_anothers(self, key: str) -> bool:
        if not needs_claim(key):
            return False
        filename = filename_for(key)
        holder = _key_in(await self._get(f"load {key!r}", object_name(claim_name_for(filename))), filename)
        return holder is not None and holder != key

    def _collision(self, key: str, filename: str, holder: str) -> KeyCollisionError:
        return KeyCollisionError(
            f"save {key!r} in {self!r}: the key {holder!r} holds the object {filename}; choose another key"
        )

    # -- listing -------------------------------------------------------------------------------------------------

    async def _objects(self) -> dict[str, tuple[int, datetime]]:
        """Return size and time of every object directly under the prefix, by name."""
        objects: dict[str, tuple[int, datetime]] = {}
        listing = obstore.list(self._store, chunk_size=_PAGE).__aiter__()
        while page := await self._ask("list", partial(anext, listing, None)):
            objects.update(
                (found["path"], (found["size"], found["last_modified"])) for found in page if "/" not in found["path"]
            )
        return objects

    async def _listed(self) -> tuple[dict[str, tuple[int, datetime]], dict[str, tuple[str, str | None, bool]]]:
        """Return the objects, and filename, key and ambiguity of those that are values."""
        objects = await self._objects()
        names = [name for name in objects if is_filename(name)]
        claimed: dict[str, str] = {}

        async def read_claim(name: str) -> None:
            filenames = (name, _ESCAPED.sub(_unescaped, name))
            content = await self._get("list", claim_name_for(name))
            for filename in filenames:
                key = _key_in(content, filename)
                if key is not None:
                    claimed[name] = key

        await self._attempt("list", [name for name in names if claim_name_for(name) in objects], read_claim)
        return objects, await asyncio.to_thread(_read_names, names, claimed)

    # -- requests ------------------------------------------------------------------------------------------------

    async def _get(self, tried: str, name: str) -> bytes | None:
        async def work() -> bytes:
            result = await obstore.get_async(self._store, name)
            async with asyncio.timeout(result.meta["size"] / _SLOWEST_BYTES_PER_SECOND + self._timeout_seconds):
                return bytes(await result.bytes_async())

        try:
            return await self._ask(tried, work, None)
        except FileNotFoundError as error:
            await self._see(tried, error)
            return None

    async def _put(self, tried: str, name: str, value: bytes) -> None:
        put = partial(obstore.put_async, self._store, name, value, chunk_size=_PART_BYTES, max_concurrency=4)
        try:
            await self._ask(tried, put, len(value))
        except FileNotFoundError as error:
            raise self._refused(tried, error) from error

    async def _remove(self, tried: str, name: str) -> None:
        try:
            await self._ask(tried, partial(obstore.delete_async, self._store, name))
        except FileNotFoundError as error:
            await self._see(tried, error)

    async def _see(self, tried: str, error: FileNotFoundError) -> None:
        """See once that the bucket is there: a missing bucket answers like a missing object."""
        if "NoSuchBucket" in str(error):
            raise self._refused(tried, error) from error
        if not self._seen:
            listing = obstore.list(self._store, chunk_size=1).__aiter__()
            try:
                await self._ask(tried, partial(anext, listing, None))
            except FileNotFoundError as missing:
                raise self._refused(tried, missing) from missing
            self._seen = True

    async def _ask(self, tried: str, work: Callable[[], Awaitable[T]], size: int | None = 0) -> T:
        """Await one request; what the caller must tell apart (found, exists, replaced) comes as obstore's error."""
        global _runtime_process
        if _runtime_process is None:
            _runtime_process = os.getpid()
        elif _runtime_process != os.getpid():
            raise StorageError(
                f"{tried} in {self!r}: a forked child cannot use object stores; start processes with 'spawn'"
            )
        limit = None if size is None else self._timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(limit):
                return await work()
        except (FileNotFoundError, AlreadyExistsError, PreconditionError):
            raise
        except TimeoutError as error:
            raise StorageError(
                f"{tried} in {self!r}: no answer within {self._timeout_seconds:g} s; look whether it is reachable"
            ) from error
        except (BaseError, OSError) as error:
            raise self._refused(tried, error) from error

    def _refused(self, tried: str, error: Exception) -> StorageError:
        reason = str(error).strip().partition("\n")[0]
        for name, value in self._options.items():
            if _SECRET.search(name) and value:
                reason = reason.replace(value, "***")
        return StorageError(f"{tried} in {self!r}: {reason}{_advice(reason)}")


class _ObjectReader:
    """The ranges of one object, one request for each chunk."""

    def __init__(self, read_range: Callable[[int, int], Awaitable[bytes]], meta: Any) -> None:
        self._range = read_range
        self._position = 0
        self.size: int = meta["size"]

    async def read(self, size: int = -1) -> bytes:
        rest = self.size - self._position
        wanted = rest if size < 0 else min(size, rest)
        if not wanted:
            return b""
        chunk = await self._range(self._position, wanted)
        self._position += len(chunk)
        return chunk


class _Aborted(Exception):  # noqa: N818 - a signal to the upload, nobody else sees it
    """Ends an upload that must not become an object."""


class _ObjectWriter:
    """Collects chunks to parts, and uploads them while more come."""

    def __init__(self, key: str, upload: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> None:
        self._key = key
        self._upload = upload
        self._collected = bytearray()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._task: asyncio.Task[None] | None = None
        self._aborted = False

    async def write(self, chunk: BytesLike) -> None:
        chunk = check_value(self._key, chunk)
        for start in range(0, len(chunk), _PART_BYTES):
            self._collected += memoryview(chunk)[start : start + _PART_BYTES]
            if len(self._collected) > _PART_BYTES:
                if self._task is None:
                    self._task = asyncio.ensure_future(self._run())
                part = bytes(self._collected[:_PART_BYTES])
                del self._collected[:_PART_BYTES]
                await self._give(part)

    async def finish(self) -> bytes | None:
        """End the upload; return everything instead when it is so little that no upload has begun."""
        if self._task is None:
            return bytes(self._collected)
        await self._give(bytes(self._collected))
        await self._give(None)
        await self._task
        return None

    async def abort(self) -> None:
        """End the upload without an object."""
        if self._task is None:
            return
        self._aborted = True
        if not self._task.done():
            await self._give(None, failing=False)
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()

    async def _run(self) -> None:
        await self._upload(self._given())

    async def _given(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part
        if self._aborted:
            raise _Aborted

    async def _give(self, part: bytes | None, *, failing: bool = True) -> None:
        """Hand a part to the upload, unless the upload has failed."""
        assert self._task is not None  # noqa: S101 - for the type checker: only called once it runs
        putting = asyncio.ensure_future(self._parts.put(part))
        await asyncio.wait([putting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not putting.done():
            putting.cancel()
            if failing:
                await self._task


def object_name(filename: str) -> str:
    """Return the object's name for a filename: control characters, which object stores refuse, as ``%0A``."""
    return _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", filename)


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _read_names(names: list[str], claimed: dict[str, str]) -> dict[str, tuple[str, str | None, bool]]:
    """Return filename, key and ambiguity of each object: the claimed key, else what the name reads as."""
    unclaimed = [name for name in names if name not in claimed]
    escaped = [name for name in unclaimed if _ESCAPED.search(name)]
    # The hash fits one of the two readings only.
    other = {name: reading for name, reading in zip(
        escaped, keys_for([_ESCAPED.sub(_unescaped, name) for name in escaped]), strict=True
    ) if reading.keys}  # fmt: skip
    readings = dict(zip(unclaimed, keys_for(unclaimed), strict=True)) | other
    named: dict[str, tuple[str, str | None, bool]] = {}
    for name in names:
        if name in claimed:
            named[name] = filename_for(claimed[name]), claimed[name], False
            continue
        keys = readings[name].keys
        named[name] = readings[name].filename, keys[0] if keys else None, len(keys) > 1
    return named


def _key_in(content: bytes | None, filename: str) -> str | None:
    try:
        key = (content or b"\xff").decode()
    except UnicodeDecodeError:
        return None
    return key if filename_for(key) == filename else None


def _advice(reason: str) -> str:
    """Return the next step for what a store most often refuses."""
    if (
        "/latest/api/token" in reason or "/latest/meta-data" in reason
    ):  # where the keys of a cloud machine are asked for
        return (
            "; no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass access_key_id and "
            "secret_access_key (they do not travel to workers), or skip_signature='true' for a public bucket"
        )
    if "error sending request" in reason:
        return "; look whether the server is up and reachable, and the endpoint is right"
    if "NoSuchBucket" in reason:
        return "; make the bucket first, or check its name"
    return ""


def _shown(address: str) -> str:
    url = urlsplit(address)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _opened(address: str, timeout_seconds: float, options: dict[str, str]) -> Any:
    url = urlsplit(address)
    if url.scheme not in _SCHEMES or not url.netloc:
        raise ValueError(
            "an address is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix: "
            f"this one, of the scheme {url.scheme!r}, names no bucket after //"
        )
    open_url: Any = from_url  # Any: its stub wants one of three typed dictionaries, by the scheme
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
    # obstore would panic with the first request.
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"an endpoint begins with http:// or https://, not {endpoint!r}; write https://{endpoint}")
    try:
        return open_url(
            _shown(address).rstrip("/"),
            config=options or None,
            client_options={
                "timeout": timedelta(seconds=timeout_seconds),
                "connect_timeout": timedelta(seconds=timeout_seconds),
                "allow_http": endpoint.startswith("http://"),
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
            f"open {_shown(address)!r}: {str(error).partition(chr(10))[0]}; options are those of obstore, such as "
            "endpoint, region, access_key_id, secret_access_key"
        ) from None
