"""ObjectPersistenceBackend: values as objects of S3, Google Cloud or Azure, under the filenames they have on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from persistkit.backend import Entry, PersistenceBackend, Reader, Writer, raise_failures
from persistkit.errors import KeyCollisionError, PersistenceError, StorageError
from persistkit.filenames import claim_name_for, filename_for, is_filename, keys_for, needs_claim
from persistkit.operations import BytesLike, check_key, check_timeout

try:
    from persistkit.backends.object_names import NamedKey, filenames_of, key_in, object_name, read_names
    from persistkit.backends.object_requests import Bucket
    from persistkit.backends.object_streams import PART_BYTES, ObjectReader, ObjectWriter
except ImportError as error:
    raise ImportError('object stores need one more package: pip install "persistkit[s3]"') from error

__all__ = ["ObjectPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


_DELETED_AT_ONCE: Final = 1_000
_PARTS: Final = 10_000


class ObjectPersistenceBackend(PersistenceBackend):
    """One object a key, named as the file would be: ``<prefix>/<sanitized key>-<djb2 hash>.bin``.

    A directory of ``FilePersistenceBackend`` copied to a bucket, companions included, is a working store, and the
    other way round. Control characters, which object stores refuse, are written ``%0A``, and so are
    U+FFFE and U+FFFF; the hash tells the two readings apart.

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
        ValueError: the address or an option is unknown, or the timeout is not above zero.

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
        check_timeout(timeout_seconds)
        self.max_value_bytes = PART_BYTES * _PARTS
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._bucket = Bucket(address, timeout_seconds, options)

    def __repr__(self) -> str:
        return f"ObjectPersistenceBackend({self._bucket.place!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if not isinstance(self._address, str):
            raise TypeError(
                f"pickle {self!r}: a store of obstore would take its credentials along, or cannot go at all; "
                "open it by its address, such as s3://bucket/prefix"
            )
        again = partial(type(self), timeout_seconds=self._timeout_seconds, **self._bucket.public_options)
        return again, (self._bucket.place,)

    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``, in several parts at once when it is large."""
        if needs_claim(key):
            await self._claim(key)
        await self._bucket.put(f"save {key!r}", object_name(filename_for(key)), bytes(value))

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        value = await self._bucket.get(f"load {key!r}", object_name(filename_for(key)))
        return None if value is None or await self._is_anothers(key) else value

    async def load_filename(self, filename: str) -> bytes | None:
        """Return the value under ``filename``, as an entry of unknown key tells it; None when there is none."""
        if not is_filename(filename) or "/" in filename:
            raise StorageError(f"load the object {filename!r} in {self!r}: not the name of a value")
        return await self._bucket.get(f"load the object {filename!r}", object_name(filename))

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; its claim stays, so that no other key slips in."""
        if await self._is_anothers(key):
            return
        await self._bucket.remove(f"delete {key!r}", object_name(filename_for(key)))

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys``, a thousand a request where no claim has a say."""
        pending = list(dict.fromkeys(keys))
        failures: dict[str, Exception] = {}
        plain = iter([key for key in pending if not needs_claim(key)])
        alone = [key for key in pending if needs_claim(key)]
        try:
            while part := list(islice(plain, _DELETED_AT_ONCE)):
                names = [object_name(filename_for(key)) for key in part]
                if not await self._bucket.remove_all(f"delete {len(part):,} keys", names):
                    # One answer for a thousand keys: asked again one by one, each tells its own.
                    alone += part
        except StorageError as error:  # nothing answers: every other request would wait for it again
            failures.update(dict.fromkeys([*part, *plain, *alone], error))
            alone = []
        try:
            await self._attempt("batch_delete", alone, self.delete)
        except PersistenceError as error:
            failures.update(getattr(error, "failures", {}))
        raise_failures("batch_delete", len(pending), failures)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, without reading it."""
        there = await self._bucket.head(f"look for {key!r}", object_name(filename_for(key)))
        return there is not None and not await self._is_anothers(key)

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
        return sum(is_filename(name) for name in await self._bucket.objects("count"))

    def open_reader(self, key: str) -> AbstractAsyncContextManager[Reader | None]:
        """Open the value of ``key`` for reading in chunks, each one request."""
        check_key(key)
        return self._reader(key)

    def open_writer(self, key: str) -> AbstractAsyncContextManager[Writer]:
        """Open the value of ``key`` for writing in chunks; above 8 MiB they are uploaded as they come."""
        check_key(key)
        return self._writer(key)

    @asynccontextmanager
    async def _reader(self, key: str) -> AsyncIterator[Reader | None]:
        name = object_name(filename_for(key))
        meta = await self._bucket.head(f"open {key!r}", name)
        if meta is None or await self._is_anothers(key):
            yield None
        else:
            yield ObjectReader(partial(self._bucket.get_range, f"read {key!r}", name, meta), meta["size"])

    @asynccontextmanager
    async def _writer(self, key: str) -> AsyncIterator[Writer]:
        if needs_claim(key):
            await self._claim(key)
        name = object_name(filename_for(key))
        writer = ObjectWriter(key, partial(self._bucket.upload, f"save {key!r}", name))
        try:
            yield writer
        except BaseException:
            await writer.abort()
            raise
        rest = await writer.finish()
        if rest is not None:
            await self._bucket.put(f"save {key!r}", name, rest)

    async def _claim(self, key: str) -> None:
        """Make the companion that says the name is this key's, unless another key has it."""
        filename = filename_for(key)
        tried, companion = f"save {key!r}", object_name(claim_name_for(filename))
        holder = await self._bucket.get(tried, companion)
        if holder is None:
            (reading,) = keys_for([filename])
            if len(reading.keys) == 1 and reading.keys[0] != key:
                raise self._collision(key, filename, reading.keys[0])
            if await self._bucket.put_new(tried, companion, key.encode()):
                return
            holder = await self._bucket.get(tried, companion)
        if holder != key.encode():
            raise self._collision(key, filename, (holder or b"").decode(errors="replace"))

    async def _is_anothers(self, key: str) -> bool:
        if not needs_claim(key):
            return False
        filename = filename_for(key)
        holder = key_in(await self._bucket.get(f"load {key!r}", object_name(claim_name_for(filename))), filename)
        return holder is not None and holder != key

    def _collision(self, key: str, filename: str, holder: str) -> KeyCollisionError:
        return KeyCollisionError(
            f"save {key!r} in {self!r}: the key {holder!r} holds the object {filename}; choose another key"
        )

    async def _listed(self) -> tuple[dict[str, tuple[int, datetime]], dict[str, NamedKey]]:
        """Return the objects, and filename, key and ambiguity of those that are values."""
        objects = await self._bucket.objects("list")
        names = [name for name in objects if is_filename(name)]
        claimed: dict[str, str] = {}

        async def read_claim(name: str) -> None:
            content = await self._bucket.get("list", claim_name_for(name))
            for filename in filenames_of(name):
                key = key_in(content, filename)
                if key is not None:
                    claimed[name] = key

        await self._attempt("list", [name for name in names if claim_name_for(name) in objects], read_claim)
        return objects, await asyncio.to_thread(read_names, names, claimed)
