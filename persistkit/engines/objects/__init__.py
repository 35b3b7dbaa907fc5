"""ObjectEngine: values as objects of S3, Google Cloud or Azure, under the filenames they have on disk."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, Final, cast

from persistkit.arguments import BytesLike, check_timeout
from persistkit.batches import attempt_chunks, attempt_each, failures_of, paged
from persistkit.engine import Engine
from persistkit.entry import Entry, sorted_out
from persistkit.errors import KeyCollisionError, StorageError
from persistkit.keys import candidates_of, filename_for, is_filename, owner_filename_for

try:
    from persistkit.engines.objects.bucket import PART_BYTES, Bucket, ObjectReader
    from persistkit.engines.objects.names import key_in, object_name, object_place, read_names
    from persistkit.engines.objects.threads import GRACE_SECONDS
except ImportError as error:
    raise ImportError('object stores need one more package: pip install "persistkit[s3]"') from error

__all__ = ["ObjectEngine"]

_DELETED_AT_ONCE: Final = 1_000
_PARTS: Final = 10_000
_THREADS: Final = 32
_READER_BYTES: Final = 1024 * 1024


class ObjectEngine(Engine):
    """One object a key, named as the file would be: ``<prefix>/<sanitized key>-<djb2 hash>.bin``.

    A directory of ``FileEngine`` copied to a bucket, owner files included, is a working store, and the other way
    round. Control characters, which object stores refuse, are written ``%0A``, and so are U+FFFE and U+FFFF.

    Promises, beyond ``Engine``:

    * A save that returned was acknowledged by the store, and is as durable as the store says. Readers see the old
      object or the new one, whole.
    * Two keys never share a value: keys whose name could be another's have an owner object, ``.key``, made by a
      conditional put, which the store must offer (S3, Google Cloud, Azure, SeaweedFS and MinIO do), as ``add`` and
      ``replace`` need it too.
    * A request that was interrupted or got no answer may still land, old or new, whole. When ``add`` or ``replace``
      raises, it is not known whether it stored.
    * ``delete_unchanged`` looks at each object right before it removes it: what is saved in the moment between is lost,
      and two values of the same size saved within the same second count as the same.
    * Readers ask for 1 MiB at a time, and one whose object is replaced meanwhile raises. Writers keep what is
      written on disk above 8 MiB, and upload it in parts when the block ends.
    * Listing asks for every object under the prefix, whatever the key's prefix, and holds their names in memory.

    S3 is tested against SeaweedFS; ``gs://`` and ``az://`` share the code and are unverified. A forked child cannot
    use it: start processes with ``spawn``. What the main thread asks for is done in another one, so that Ctrl-C ends
    it, and a batch in at most 32.

    Args:
        address: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``; or a store of obstore.
        timeout_seconds: how long one request may take, new tries included; large values get a second more a MiB.
        options: obstore's configuration of the store and of its HTTP client: ``endpoint``, ``region``,
            ``access_key_id``, ``secret_access_key``, ``proxy_url``, ...; what is not given comes from the environment
            (``AWS_ACCESS_KEY_ID``, ...). Never shown; secrets are never pickled.

    Raises:
        TypeError: an option is neither text nor a bool, or the timeout is not a number.
        ValueError: the address or an option is unknown, or the timeout is not above zero.

    Example:
        >>> from obstore.store import MemoryStore
        >>> engine = ObjectEngine(MemoryStore())
        >>> engine.save("session:1", b"state")
        >>> engine.list_keys()
        ['session:1']
    """

    max_value_bytes = PART_BYTES * _PARTS
    concurrency = _THREADS

    def __init__(self, address: Any, *, timeout_seconds: float = 30.0, **options: str | bool) -> None:
        # Any: an address or any of obstore's seven store classes, which share no base class.
        check_timeout(timeout_seconds)
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._bucket = Bucket(address, timeout_seconds, options)

    def __repr__(self) -> str:
        return f"ObjectEngine({self._bucket.shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if not isinstance(self._address, str):
            raise TypeError(
                f"pickle {self!r}: a store of obstore would take its credentials along, or cannot go at all; "
                "open it by its address, such as s3://bucket/prefix"
            )
        again = partial(type(self), timeout_seconds=self._timeout_seconds, **self._bucket.public_options)
        return again, (self._bucket.shown,)

    def _save(self, key: str, value: BytesLike) -> None:
        name = self._owned_name(f"save {key!r}", key)
        # A copy of what may change: the thread may outlive an interrupt.
        self._bucket.put(f"save {key!r}", name, bytes(value), len(value))

    def _load(self, key: str) -> bytes | None:
        name, owner_name = object_place(key)
        value = self._bucket.get(f"load {key!r}", name)
        return None if value is None or self._is_anothers(key, name, owner_name) else value

    def load_filename(self, filename: str) -> bytes | None:
        """Return the value under ``filename``, as an entry of unknown key tells it; None when there is none."""
        if not is_filename(filename) or "/" in filename:
            raise StorageError(f"load the object {filename!r} in {self!r}: not the name of a value")
        return self._bucket.get(f"load the object {filename!r}", object_name(filename))

    def _delete(self, key: str) -> None:
        # The owner object stays, so that no other key slips in.
        name, owner_name = object_place(key)
        if not self._is_anothers(key, name, owner_name):
            self._bucket.remove(f"delete {key!r}", name)

    def _exists(self, key: str) -> bool:
        name, owner_name = object_place(key)
        there = self._bucket.head(f"look for {key!r}", name)
        return there is not None and not self._is_anothers(key, name, owner_name)

    def _add(self, key: str, value: BytesLike) -> bool:
        name = self._owned_name(f"add {key!r}", key)
        return self._bucket.put_if(f"add {key!r}", name, bytes(value))

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        name, owner_name = object_place(key)
        while (found := self._bucket.get_version(f"replace {key!r}", name)) is not None and found[0] == expected:
            if self._is_anothers(key, name, owner_name):
                return False
            if found[1] is None:
                raise StorageError(f"replace {key!r} in {self!r}: the store tells no versions (e_tag) apart")
            self._owned_name(f"replace {key!r}", key)
            if self._bucket.put_if(f"replace {key!r}", name, bytes(value), found[1]):
                return True
        return False

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        name, owner_name = object_place(key)
        part = self._bucket.get_range(f"read a part of {key!r}", name, start, size or 1)
        return None if part is None or self._is_anothers(key, name, owner_name) else part[:size]

    def _batch_delete(self, keys: list[str]) -> None:
        def delete(page: list[str]) -> dict[str, Exception]:
            places = {key: object_place(key) for key in page}
            plain = [name for name, owner_name in places.values() if owner_name is None]
            alone = [key for key, (_, owner_name) in places.items() if owner_name is not None]
            # One answer for a thousand keys: asked again one by one, each tells its own.
            if plain and not self._bucket.remove_all(f"delete {len(plain):,} keys", plain):
                alone = page
            return failures_of("batch_delete", alone, self._delete, _THREADS, GRACE_SECONDS)

        attempt_chunks("batch_delete", paged(keys, _DELETED_AT_ONCE), delete)

    def _delete_unchanged(self, seen: dict[str, Entry]) -> dict[str, str]:
        kept: dict[str, str] = {}

        def delete(key: str) -> None:
            name, owner_name = object_place(key)
            meta = self._bucket.head(f"delete {key!r}", name)
            if meta is not None and not self._is_anothers(key, name, owner_name):
                same, changed = sorted_out(seen, [Entry(key, meta["size"], meta["last_modified"])])
                kept.update(changed)
                for _ in same:
                    self._bucket.remove(f"delete {key!r}", name)

        failures = failures_of("delete", list(seen), delete, _THREADS, GRACE_SECONDS)
        return kept | {key: str(reason) for key, reason in failures.items()}

    def _entries(self, prefix: str) -> Iterator[Entry]:
        objects = self._bucket.objects("list")
        names = [name for name in objects if is_filename(name)]
        owners: dict[str, str] = {}

        def read_owner(name: str) -> None:
            key = key_in(self._bucket.get("list", owner_filename_for(name)), name)
            if key is not None:
                owners[name] = key

        self._attempt_each("list", [name for name in names if owner_filename_for(name) in objects], read_owner)
        for name, (filename, keys, complete) in read_names(names, owners).items():
            key = keys[0] if keys else None
            if not prefix or (key is not None and key.startswith(prefix)):
                yield Entry(key, *objects[name], filename, bool(keys) and not (complete and len(keys) == 1))

    def _key_count(self) -> int:
        return sum(is_filename(name) for name in self._bucket.objects("count"))

    def _open_reader(self, key: str) -> io.BufferedIOBase | None:
        name, owner_name = object_place(key)
        meta = self._bucket.head(f"open {key!r}", name)
        if meta is None or self._is_anothers(key, name, owner_name):
            return None
        return io.BufferedReader(ObjectReader(self._bucket, f"read {key!r}", name, meta), _READER_BYTES)

    @contextmanager
    def _open_writer(self, key: str) -> Iterator[IO[bytes]]:
        from persistkit.streams import SpooledWriter  # here, because few write streams, and tempfile imports much

        with SpooledWriter(key, self.max_value_bytes) as writer:
            yield writer
            size = writer.seek(0, io.SEEK_END)
            writer.seek(0)
            name = self._owned_name(f"save {key!r}", key)
            self._bucket.put(f"save {key!r}", name, cast("IO[bytes]", writer), size)

    def _owned_name(self, tried: str, key: str) -> str:
        """Return the name of the key's object, and make the owner object that says so unless another key has it."""
        name, owner_name = object_place(key)
        if owner_name is None:
            return name
        owner = self._bucket.get(tried, owner_name)
        if owner is None:
            # An object without an owner may be another key's, by an accident of the hash.
            if self._bucket.head(tried, name) is not None:
                (found,) = candidates_of([filename_for(key)], thorough=False)
                if len(found.keys) == 1 and found.keys[0] != key:
                    raise self._collision(tried, name, found.keys[0])
            if self._bucket.put_if(tried, owner_name, key.encode()):
                return name
            owner = self._bucket.get(tried, owner_name)
        if owner != key.encode():
            raise self._collision(tried, name, (owner or b"").decode(errors="replace"))
        return name

    def _is_anothers(self, key: str, name: str, owner_name: str | None) -> bool:
        if owner_name is None:
            return False
        owner = key_in(self._bucket.get(f"load {key!r}", owner_name), name)
        return owner is not None and owner != key

    def _collision(self, tried: str, name: str, owner: str) -> KeyCollisionError:
        return KeyCollisionError(f"{tried} in {self!r}: the key {owner!r} owns the object {name}; choose another key")

    def _attempt_each(self, operation: str, keys: Iterable[str], work: Callable[[str], object]) -> None:
        attempt_each(operation, keys, work, _THREADS, GRACE_SECONDS)
