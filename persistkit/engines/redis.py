"""RedisEngine: values in a Redis or Valkey server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from errno import EHOSTUNREACH, ETIMEDOUT
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from persistkit.arguments import BytesLike, check_timeout, key_of
from persistkit.batches import attempt_chunks, chunked, paged
from persistkit.engine import Engine
from persistkit.engines import shown_address
from persistkit.engines.addresses import cause_without, hidden, server_url
from persistkit.entry import Entry
from persistkit.errors import StorageError

try:
    from redis.connection import ConnectionPool, parse_url
    from redis.exceptions import AuthenticationError, RedisError, ResponseError
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ImportError as error:
    raise ImportError('Redis and Valkey need one more package: pip install "persistkit[redis]"') from error

__all__ = ["RedisEngine"]

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_PAGE: Final = 1_000
_PIPELINE_BYTES: Final = 32 * 1024 * 1024

Command: TypeAlias = tuple[bytes | int, ...]


class RedisEngine(Engine):
    """Values as strings of a Redis or Valkey server, each under ``namespace`` and its key.

    Promises, beyond ``Engine``:

    * A save that returned was answered by the server, and survives what the server survives: with its defaults the
      last seconds before a crash may be lost; ``appendonly yes`` with ``appendfsync always`` keeps all. A server told
      to evict keys (``maxmemory-policy``) forgets values.
    * A request that was interrupted or got no answer in time may still land, old or new, whole. When ``add`` or
      ``replace`` raises, it is not known whether it stored.
    * Listing scans (``SCAN``, never ``KEYS``), in no order, and gives each key once; it costs a walk over the whole
      database, other namespaces included. Redis keeps no time: ``modified`` is None.
    * What other programs keep under the namespace is neither listed nor read if it is a list or hash. A name that
      cannot be a key is listed with key None.

    Readers and writers hold the whole value in memory. Redis Cluster is not supported.

    Args:
        address: ``redis://host:6379/0``, ``valkey://...``, or with TLS ``rediss://...``, ``valkeys://...``.
        namespace: what every key on the server begins with.
        password: better here, or in the variable ``REDISCLI_AUTH``, than in the address; never shown, never pickled.
        timeout_seconds: how long the server may be silent.

    Raises:
        TypeError: the timeout is not a number.
        ValueError: the address has another scheme, no host, or an option that is unknown; or the timeout is not above
            zero.

    Example:
        >>> RedisEngine("valkey://me:secret@localhost:6379/0", namespace="runs:")
        RedisEngine('valkey://me@localhost:6379/0', namespace='runs:')
    """

    max_value_bytes = 512 * 1024 * 1024

    def __init__(
        self,
        address: str,
        *,
        namespace: str = "persistkit:",
        password: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        check_timeout(timeout_seconds)
        self._options = _options_of(address)
        if password:
            self._options["password"] = password
        self._place = shown_address(address)
        self.namespace = namespace
        self._namespace = namespace.encode()
        self._timeout_seconds = timeout_seconds
        self._pool: ConnectionPool | None = None

    def __repr__(self) -> str:
        return f"RedisEngine({self._place!r}, namespace={self.namespace!r})"

    def __getstate__(self) -> dict[str, object]:
        options = {name: value for name, value in self._options.items() if "password" not in name}
        return {**self.__dict__, "_options": options, "_pool": None}

    def _save(self, key: str, value: BytesLike) -> None:
        self._command(f"save {key!r}", b"SET", self._name(key), bytes(value))

    def _load(self, key: str) -> bytes | None:
        value: bytes | None = self._command(f"load {key!r}", b"GET", self._name(key))
        return value

    def _delete(self, key: str) -> None:
        self._command(f"delete {key!r}", b"DEL", self._name(key))

    def _exists(self, key: str) -> bool:
        return bool(self._command(f"look for {key!r}", b"EXISTS", self._name(key)))

    def _read_range(self, key: str, start: int, size: int) -> bytes | None:
        last = start + (size or 1) - 1
        part: bytes = self._command(f"read a part of {key!r}", b"GETRANGE", self._name(key), start, last)
        # A missing value reads like the end of one.
        return part[:size] if part or self._exists(key) else None

    def _add(self, key: str, value: BytesLike) -> bool:
        # Sent once only: if its answer was lost, a second one would find the first.
        return self._command(f"add {key!r}", b"SET", self._name(key), bytes(value), b"NX", tries=1) is not None

    def _rename(self, key: str, new_key: str) -> bool:
        if self._read_range(key, 0, 1) is None:  # an error where another program keeps a list or a hash
            return False
        return bool(self._command(f"rename {key!r}", b"RENAMENX", self._name(key), self._name(new_key), tries=1))

    def _replace(self, key: str, value: BytesLike, expected: BytesLike) -> bool:
        # WATCH and MULTI, and no Lua script: scripts are a right of their own, which many servers do not grant.
        name, new, old = self._name(key), bytes(value), bytes(expected)

        def compare_and_set(connection: Any) -> bool:
            while True:
                _, stored = _checked(_answers(connection, [(b"WATCH", name), (b"GET", name)]))
                if stored != old:
                    _answer(connection, (b"UNWATCH",))
                    return False
                _, _, stored_now = _checked(_answers(connection, [(b"MULTI",), (b"SET", name, new), (b"EXEC",)]))
                if stored_now is not None:  # or else somebody wrote in between, perhaps the same bytes
                    _checked(stored_now)
                    return True

        replaced: bool = self._ask(f"replace {key!r}", compare_and_set, tries=1)
        return replaced

    def _batch_save(self, items: dict[str, BytesLike]) -> None:
        chunks = chunked(items, _PAGE, _PIPELINE_BYTES)
        self._batch("batch_save", chunks, lambda key: (b"SET", self._name(key), bytes(items[key])))

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        loaded: dict[str, bytes | None] = {}

        def load(chunk: list[str]) -> dict[str, Exception]:
            values = self._ask(
                f"load {len(chunk):,} keys",
                lambda connection: _answers(connection, [(b"MGET", *map(self._name, chunk))])[0],
            )
            if isinstance(values, Exception):
                values = [None] * len(chunk)
            loaded.update(zip(chunk, values, strict=True))
            # MGET says None of a missing key and of a list, and one key that is forbidden fails it as a whole.
            doubtful = [key for key, value in zip(chunk, values, strict=True) if value is None]
            return self._each("load", doubtful, lambda key: (b"GET", self._name(key)), loaded)

        attempt_chunks("batch_load", paged(dict.fromkeys(keys), _PAGE), load)
        return [loaded[key] for key in keys]

    def _batch_delete(self, keys: list[str]) -> None:
        self._batch("batch_delete", paged(keys, _PAGE), lambda key: (b"DEL", self._name(key)))

    def _existing(self, keys: list[str]) -> set[str]:
        found = self._batch("existing", paged(keys, _PAGE), lambda key: (b"EXISTS", self._name(key)))
        return {key for key, count in found.items() if count}

    def _entries(self, prefix: str) -> Iterator[Entry]:
        tried = f"list keys starting with {prefix!r}"
        for page in self._scan(prefix):
            sizes = self._ask(tried, partial(_answers, commands=[(b"STRLEN", name) for name in page]))
            # An empty value and one deleted meanwhile have the same length.
            empty = [name for name, size in zip(page, sizes, strict=True) if size == 0]
            there = self._ask(tried, partial(_answers, commands=[(b"EXISTS", name) for name in empty]))
            gone = {name for name, exists in zip(empty, there, strict=True) if not exists}
            for name, size in zip(page, sizes, strict=True):
                # A key that became a list or hash meanwhile answers with an error.
                if name in gone or not isinstance(size, int):
                    continue
                key = self._key(name)
                if key is not None or not prefix:
                    yield Entry(key, size, None)

    def _list_keys(self, prefix: str) -> list[str]:
        return sorted(key for page in self._scan(prefix) for key in map(self._key, page) if key is not None)

    def _key_count(self) -> int:
        return sum(map(len, self._scan("")))

    def close(self) -> None:
        """Close the connections that are not in use; the next operation opens one anew."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.disconnect(inuse_connections=False)

    def _name(self, key: str) -> bytes:
        return self._namespace + key.encode()

    def _key(self, name: bytes) -> str | None:
        return key_of(name[len(self._namespace) :])

    def _scan(self, prefix: str) -> Iterator[list[bytes]]:
        """Give the names page by page, each once: a scan repeats names while the server's table grows or shrinks."""
        begin = self._namespace + prefix.encode(errors="surrogatepass")
        pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", begin) + b"*"
        seen: set[bytes] = set()
        cursor: bytes | int = 0
        while True:
            cursor, names = self._command(
                f"list keys starting with {prefix!r}",
                *(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _PAGE, b"TYPE", b"string"),
            )
            page = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(page)
            if page:
                yield page
            if int(cursor) == 0:
                return

    def _batch(
        self, operation: str, chunks: Iterable[Collection[str]], command: Callable[[str], Command]
    ) -> dict[str, Any]:
        """Send the command of each key, a chunk of them together; return the answers."""
        verb = "look for" if operation == "existing" else operation.removeprefix("batch_")
        answered: dict[str, Any] = {}
        attempt_chunks(operation, chunks, lambda chunk: self._each(verb, chunk, command, answered))
        return answered

    def _each(
        self, verb: str, keys: Collection[str], command: Callable[[str], Command], answered: dict[str, Any]
    ) -> dict[str, Exception]:
        """Send the commands of several keys together and note the answers; return the failures."""
        answers = self._ask(f"{verb} {len(keys):,} keys", partial(_answers, commands=list(map(command, keys))))
        failures: dict[str, Exception] = {}
        for key, answer in zip(keys, answers, strict=True):
            if isinstance(answer, Exception):
                failures[key] = self._failure(f"{verb} {key!r}", answer)
            else:
                answered[key] = answer
        return failures

    # Any: an answer is whatever the command answers, and redis-py's connections are typed as what they are not.
    def _command(self, tried: str, *command: bytes | int, tries: int = 2) -> Any:
        return self._ask(tried, partial(_answer, command=command), tries)

    def _ask(self, tried: str, work: Callable[[Any], Any], tries: int = 2) -> Any:
        """Return what ``work`` returns of a connection."""
        while True:
            pool = self._pool = self._pool or self._make_pool()
            try:
                connection = pool.get_connection()
                try:
                    return work(connection)
                except BaseException:
                    # An answer that is still on its way would be taken for that of the next request.
                    connection.disconnect()  # type: ignore[no-untyped-call]
                    raise
                finally:
                    pool.release(connection)
            except (RedisError, OSError) as error:
                tries -= 1
                if isinstance(error, RedisConnectionError):
                    self.close()  # the others may have been dropped too
                    if tries and not isinstance(error, AuthenticationError):
                        continue
                failure = self._failure(tried, error)
            raise failure  # outside of the except block, so that the driver's error is its cause only if it may be

    def _make_pool(self) -> ConnectionPool:
        defaults = {"protocol": 2, "max_connections": 2**31, "password": os.environ.get("REDISCLI_AUTH")}
        ours = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), self._timeout_seconds)
        return ConnectionPool(**defaults | self._options | ours | {"decode_responses": False})

    def _failure(self, tried: str, error: Exception) -> StorageError:
        secrets = [value for name, value in self._options.items() if "password" in name]
        secrets.append(os.environ.get("REDISCLI_AUTH"))
        reason, number = hidden(str(error).rstrip("."), secrets), None
        if isinstance(error, AuthenticationError):
            reason += "; pass password=..., or set REDISCLI_AUTH (a password does not travel to workers)"
        elif isinstance(error, (RedisTimeoutError, TimeoutError)):
            reason = f"no answer within {self._timeout_seconds:g} s; look whether the server is up and reachable"
            number = ETIMEDOUT
        elif isinstance(error, (RedisConnectionError, OSError)):
            reason += "; look whether the server is up and reachable, and the address is right"
            number = EHOSTUNREACH
        failure = StorageError(f"{tried} in {self!r}: {reason}", errno=number)
        failure.__cause__ = cause_without(error, secrets)
        return failure


def _answer(connection: Any, command: Command) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _answers(connection: Any, commands: list[Command]) -> list[Any]:
    """Send several commands at once; return their answers, a refusal of the server as an exception."""
    connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def _checked(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _options_of(address: str) -> dict[str, Any]:
    """Return the options of redis-py's connections that an address gives. Any: text, numbers, a class."""
    url = server_url(address)
    if url.scheme not in _SCHEMES or not url.hostname or not re.fullmatch(r"(/[0-9]*)?", url.path):
        raise ValueError(
            "an address is redis://host:6379/0, with valkey://, and with TLS rediss:// or valkeys:// alike, 0 being "
            f"the database: this one, of the scheme {url.scheme!r}, has no host after //, or no number after /"
        )
    known, given = url._replace(scheme=_SCHEMES[url.scheme], fragment=""), parse_qsl(url.query)
    try:
        options: dict[str, Any] = parse_url(known.geturl())  # type: ignore[no-untyped-call]
        # Some versions of redis-py decode what stands after the ? twice.
        options |= {name: value for name, value in given if options.get(name) == unquote(value)}
        ConnectionPool(**options).make_connection()  # looks at the options, and connects nowhere
    except (TypeError, ValueError, RedisError) as error:
        secrets = [url.password, unquote(url.password or ""), *(value for _, value in given)]
        refused = hidden(str(error), secrets)
    else:
        return options
    raise ValueError(f"open {shown_address(address)!r}: an option after the ? is not one of redis-py's: {refused}")
