"""RedisPersistenceBackend: values in a Redis or Valkey server."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from errno import ETIMEDOUT
from functools import partial
from itertools import islice
from operator import methodcaller
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from persistkit.backend import Entry, PersistenceBackend, raise_failures
from persistkit.backends.addresses import hidden, server_url
from persistkit.backends.cancellation import settled
from persistkit.backends.connections import PerLoop
from persistkit.errors import StorageError, ValueTooLargeError
from persistkit.operations import BytesLike, Items, check_size, check_timeout, in_parts

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff
    from redis.exceptions import AuthenticationError, RedisError
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as error:
    raise ImportError('Redis and Valkey need one more package: pip install "persistkit[redis]"') from error

__all__ = ["RedisPersistenceBackend"]


def __dir__() -> list[str]:
    return __all__


_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_PAGE: Final = 1_000
_PIPELINE_BYTES: Final = 32 * 1024 * 1024
_RETRIES: Final = 2


class RedisPersistenceBackend(PersistenceBackend):
    """Values as strings of a Redis or Valkey server, each under ``namespace`` and its key.

    Promises, beyond ``PersistenceBackend``:

    * A save that returned was answered by the server, and survives what the server survives: with its defaults the
      last seconds before a crash may be lost; ``appendonly yes`` with ``appendfsync always`` keeps all. A server told
      to evict keys (``maxmemory-policy``) forgets values.
    * Cancelling a save or delete waits for the answer. When none came in time, the request may still land, old or
      new, whole.
    * Listing scans (``SCAN``, never ``KEYS``), in no order, and gives each key once; it costs a walk over the whole
      database, other namespaces included. Redis keeps no time: ``modified`` is None.
    * What others keep under the namespace (lists, hashes, names that are not UTF-8) is neither listed nor read.

    Readers and writers hold the whole value in memory. Redis Cluster is not supported.

    Args:
        address: ``redis://host:6379/0``, ``valkey://...``, or with TLS ``rediss://...``, ``valkeys://...``.
        namespace: what every key on the server begins with.
        password: better here, or in the variable ``REDISCLI_AUTH``, than in the address; never shown, never pickled.
        timeout_seconds: how long one request may take, with connecting and at most two new tries.

    Raises:
        ValueError: the address has another scheme, no host, or an option that is unknown; or the timeout is not above
            zero.

    Example:
        >>> RedisPersistenceBackend("valkey://me:secret@localhost:6379/0", namespace="runs:")
        RedisPersistenceBackend('valkey://me@localhost:6379/0', namespace='runs:')
    """

    def __init__(
        self,
        address: str,
        *,
        namespace: str = "persistkit:",
        password: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        check_timeout(timeout_seconds)
        self.max_value_bytes = 512 * 1024 * 1024
        self.namespace = namespace
        self._address, in_address = _without_password(address)
        self._password = password or in_address
        self._timeout_seconds = timeout_seconds
        self._namespace = namespace.encode()
        self._clients: PerLoop[Redis] = PerLoop(self._open, Redis.aclose)
        pool: Any = self._open().connection_pool  # Any: redis-py leaves it untyped
        try:
            pool.make_connection()  # which looks at the options, and connects nowhere
        except (TypeError, ValueError) as error:
            raise ValueError(f"open {self!r}: an option after the ? is not one of redis-py's: {error}") from None

    def __repr__(self) -> str:
        return f"RedisPersistenceBackend({self._place()!r}, namespace={self.namespace!r})"

    def __reduce__(self) -> tuple[object, ...]:
        again = partial(type(self), namespace=self.namespace, timeout_seconds=self._timeout_seconds)
        url = urlsplit(self._address)
        options = [(name, value) for name, value in parse_qsl(url.query) if "password" not in name]
        return again, (urlunsplit(url._replace(query=urlencode(options))),)

    def _place(self) -> str:
        return urlunsplit(urlsplit(self._address)._replace(query=""))

    async def save(self, key: str, value: BytesLike) -> None:
        """Store ``value`` under ``key``."""
        name, content = self._name(key), bytes(value)
        await self._change(f"save {key!r}", lambda client: client.set(name, content))

    async def load(self, key: str) -> bytes | None:
        """Return the value stored under ``key``, or None when there is none."""
        value: bytes | None = await self._ask(f"load {key!r}", lambda client: client.get(self._name(key)))
        return value

    async def delete(self, key: str) -> None:
        """Remove the value stored under ``key``; no error when there is none."""
        await self._change(f"delete {key!r}", lambda client: client.delete(self._name(key)))

    async def batch_save(self, items: Items) -> None:
        """Store the values in pipelines of bounded size; each item succeeds or fails for itself."""
        pending = dict(items)
        attempted = len(pending)
        failures: dict[str, Exception] = {}
        for key, value in list(pending.items()):
            try:
                check_size(key, len(value), self.max_value_bytes)
            except ValueTooLargeError as error:
                failures[key] = error
                del pending[key]
        for part in in_parts(pending, _PAGE, _PIPELINE_BYTES):
            commands = {key: ("SET", self._name(key), bytes(value)) for key, value in part.items()}
            await self._change_each("save", commands, failures)
        raise_failures("batch_save", attempted, failures)

    async def batch_load(self, keys: Iterable[str]) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, by ``MGET``."""
        ordered = list(keys)
        asked = iter(dict.fromkeys(ordered))
        loaded: dict[str, bytes | None] = {}
        failures: dict[str, Exception] = {}
        while part := list(islice(asked, _PAGE)):
            if _failed_alike(part, failures):
                continue
            names = [self._name(key) for key in part]
            try:
                values = await self._ask(f"load {len(part):,} keys", methodcaller("mget", names))
            except StorageError as error:
                failures.update(dict.fromkeys(part, error))
            else:
                loaded.update(zip(part, values, strict=True))
        raise_failures("batch_load", len(loaded) + len(failures), failures)
        return [loaded[key] for key in ordered]

    async def batch_delete(self, keys: Iterable[str]) -> None:
        """Remove the values of ``keys`` in pipelines; each key succeeds or fails for itself."""
        pending = list(dict.fromkeys(keys))
        asked = iter(pending)
        failures: dict[str, Exception] = {}
        while part := list(islice(asked, _PAGE)):
            await self._change_each("delete", {key: ("DEL", self._name(key)) for key in part}, failures)
        raise_failures("batch_delete", len(pending), failures)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Iterate in no order; what is saved or deleted meanwhile may be shown or not."""
        async for keys in self._scan(prefix):
            sizes = await self._pipelined(f"list keys starting with {prefix!r}", "STRLEN", keys)
            # An empty value and one deleted meanwhile have the same length.
            empty = [key for key, size in zip(keys, sizes, strict=True) if size == 0]
            there = await self._pipelined(f"list keys starting with {prefix!r}", "EXISTS", empty)
            gone = {key for key, exists in zip(empty, there, strict=True) if not exists}
            for key, size in zip(keys, sizes, strict=True):
                # A key that became a list or hash meanwhile answers with an error.
                if key not in gone and isinstance(size, int):
                    yield Entry(key, size, None)

    async def list_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, sorted by their UTF-8 bytes."""
        return sorted([key async for keys in self._scan(prefix) for key in keys])

    async def exists(self, key: str) -> bool:
        """Tell whether a value is stored under ``key``, without reading it."""
        return bool(await self._ask(f"look for {key!r}", lambda client: client.exists(self._name(key))))

    async def key_count(self) -> int:
        """Return how many values are stored, by a scan."""
        return sum([len(keys) async for keys in self._scan("")])

    async def aclose(self) -> None:
        """Close the connections of the running event loop; those of other loops are closed when their loops end."""
        await self._clients.aclose()

    def _name(self, key: str) -> bytes:
        return self._namespace + key.encode()

    async def _scan(self, prefix: str) -> AsyncIterator[list[str]]:
        """Give the keys page by page, each once: a scan repeats keys while the server's table grows or shrinks."""
        begin = self._namespace + prefix.encode(errors="surrogatepass")
        pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", begin) + b"*"
        seen: set[bytes] = set()
        cursor = 0
        while True:
            cursor, names = await self._ask(
                f"list keys starting with {prefix!r}",
                methodcaller("scan", cursor, match=pattern, count=_PAGE, _type="string"),
            )
            new = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(new)
            page = [key for key in map(self._key, new) if key is not None]
            if page:
                yield page
            if cursor == 0:
                return

    def _key(self, name: bytes) -> str | None:
        try:
            return name[len(self._namespace) :].decode()
        except UnicodeDecodeError:
            return None

    async def _pipelined(self, tried: str, command: str, keys: list[str]) -> list[Any]:
        if not keys:
            return []

        async def work(client: Redis) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.execute_command(command, self._name(key))
                return await pipeline.execute(raise_on_error=False)

        answers: list[Any] = await self._ask(tried, work)
        return answers

    async def _change_each(
        self, verb: str, commands: dict[str, tuple[Any, ...]], failures: dict[str, Exception]
    ) -> None:
        if _failed_alike(commands, failures):
            return

        async def work(client: Redis) -> list[Any]:
            async with client.pipeline(transaction=False) as pipeline:
                for command in commands.values():
                    pipeline.execute_command(*command)
                return await pipeline.execute(raise_on_error=False)

        try:
            answers = await self._change(f"{verb} {len(commands):,} keys", work)
        except StorageError as error:
            failures.update(dict.fromkeys(commands, error))
            return
        for key, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Exception):
                failure = StorageError(f"{verb} {key!r} in {self!r}: {answer}")
                failure.__cause__ = answer
                failures[key] = failure

    # Any in these two: redis-py annotates one class for both of its faces, and every answer as a union of all.
    async def _change(self, tried: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await settled(self._ask(tried, work))

    async def _ask(self, tried: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        with self._named(tried):
            async with asyncio.timeout(self._timeout_seconds):
                return await work(self._clients.get())

    @contextmanager
    def _named(self, tried: str) -> Iterator[None]:
        try:
            yield
        except (RedisTimeoutError, TimeoutError) as error:
            raise StorageError(
                f"{tried} in {self!r}: no answer within {self._timeout_seconds:g} s; "
                "look whether the server is up and reachable",
                errno=ETIMEDOUT,
            ) from error
        except (RedisError, OSError) as error:
            reason = hidden(str(error).rstrip("."), [self._password])
            raise StorageError(f"{tried} in {self!r}: {reason}{_advice(error)}") from error

    def _open(self) -> Redis:
        options: dict[str, Any] = {}
        password = self._password or os.environ.get("REDISCLI_AUTH")
        if password:
            options["password"] = password
        scheme, rest = self._address.split("://", 1)
        pool = BlockingConnectionPool.from_url(
            f"{_SCHEMES[scheme]}://{rest}",
            max_connections=16,
            timeout=None,
            socket_timeout=self._timeout_seconds,
            socket_connect_timeout=self._timeout_seconds,
            # A dropped connection is worth a new try; an answer that does not come would only be waited for again.
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), _RETRIES, supported_errors=(RedisConnectionError,)),
            **options,
        )
        return Redis.from_pool(pool)


def _failed_alike(keys: Iterable[str], failures: dict[str, Exception]) -> bool:
    """Tell whether the part before had no answer; then these keys fail too, instead of waiting for it again."""
    last = next(reversed(failures.values()), None)
    if not isinstance(last, StorageError) or last.errno != ETIMEDOUT:
        return False
    failures.update(dict.fromkeys(keys, last))
    return True


def _advice(error: Exception) -> str:
    """Return the next step for what a server most often refuses."""
    if isinstance(error, AuthenticationError):
        return "; pass password=..., or set REDISCLI_AUTH (a password does not travel to workers)"
    if isinstance(error, RedisConnectionError):
        return "; look whether the server is up and reachable, and the address is right"
    return ""


def _without_password(address: str) -> tuple[str, str | None]:
    """Return the address without its password, and the password."""
    url = server_url(address)
    if url.scheme not in _SCHEMES or not url.hostname or not re.fullmatch(r"(/[0-9]*)?", url.path):
        raise ValueError(
            "an address is redis://host:6379/0, with valkey://, and with TLS rediss:// or valkeys:// alike, 0 being "
            f"the database: this one, of the scheme {url.scheme!r}, has no host after //, or no number after /"
        )
    queries = dict(parse_qsl(url.query))
    password = unquote(url.password) if url.password else queries.pop("password", None)
    credentials, at, host = url.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    netloc = f"{user}{at}{host}" if user else host
    return urlunsplit(url._replace(netloc=netloc, query=urlencode(queries), fragment="")), password
