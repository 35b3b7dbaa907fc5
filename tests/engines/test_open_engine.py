"""Which address leads to which engine."""

from __future__ import annotations

import asyncio
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit.backends import open_backend, shown_address
from persistkit.errors import ReadOnlyError, StorageError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("memory:", "MemoryPersistenceBackend()"),
        ("PostgreSQL://me:s3cret@host:5433/state", "SQLPersistenceBackend('postgresql://me@host:5433/state')"),
        ("valkey://:s3cret@host/2", "RedisPersistenceBackend('valkey://host/2', namespace='persistkit:')"),
        ("redis://host", "RedisPersistenceBackend('redis://host', namespace='persistkit:')"),
        ("s3://bucket/some/prefix", "ObjectPersistenceBackend('s3://bucket/some/prefix')"),
        ("gs://bucket", "ObjectPersistenceBackend('gs://bucket')"),
    ],
)
def test_an_address_opens_its_engine(address: str, shown: str) -> None:
    """Each scheme leads to its backend, before anything is sent, and the password is not shown."""
    if address.startswith("gs://"):
        assert repr(open_backend(address, skip_signature="true")) == shown
    elif address.startswith("s3://"):
        assert repr(open_backend(address, region="us-east-1", secret_access_key="s3cret", access_key_id="k")) == shown  # noqa: S106
    else:
        assert repr(open_backend(address)) == shown


def test_a_store_shows_no_password() -> None:
    """The repr of a store opened by an address does not hold what is secret in the address."""
    assert "s3cret" not in repr(persistkit.open("postgresql://me:s3cret@host/state?password=s3cret"))
    assert repr(persistkit.open("redis://me:s3cret@host:1/0")) == "Store('redis://me@host:1/0')"


def test_a_sqlite_file_opens_as_a_store(tmp_path: Path) -> None:
    """The same store, by another address."""
    with persistkit.open(f"sqlite:///{tmp_path}/state.db", create=True) as store:
        store["run/1"] = {"loss": 0.5}
    with persistkit.open(f"sqlite:///{tmp_path}/state.db", read_only=True) as store:
        assert dict(store) == {"run/1": {"loss": 0.5}}


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path written with a tilde leads home, as in a shell; a directory here that is called so is itself."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    with persistkit.open("~/results", create=True) as store:
        store["run/1"] = 1
    assert list(persistkit.open(home / "results", read_only=True)) == ["run/1"]
    assert list(here.iterdir()) == []
    (here / "~" / "results").mkdir(parents=True)
    assert list(persistkit.open("~/results")) == []


def test_an_unknown_scheme_lists_the_known_and_no_password() -> None:
    """A mistyped scheme is answered with those there are, without the rest of the address."""
    with pytest.raises(StorageError, match=r"sqlite://.*s3://") as caught:
        open_backend("mongodb://me:s3cret@host/state")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "package", "address", "extra"),
    [
        ("sql", "sqlalchemy", "sqlite:///state.db", "sql"),
        ("sql", "aiosqlite", "sqlite:///state.db", "sql"),
        ("sql", "psycopg", "postgresql://host", "sql"),
        ("redis", "redis.asyncio", "redis://host", "redis"),
        ("objects", "obstore", "s3://bucket", "s3"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, address: str, extra: str
) -> None:
    """Without the engine's packages, the error says what to install."""
    for name in (module, "object_requests"):
        monkeypatch.delitem(sys.modules, f"persistkit.backends.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "persistkit\[{extra}\]"'):
        open_backend(address)


async def test_a_backend_opens_read_only(tmp_path: Path) -> None:
    """Reads pass, and every write is refused, under the public name as for a store."""
    address = f"sqlite:///{tmp_path}/state.db"
    async with persistkit.open_backend(address, create=True) as backend:
        await backend.save("key", b"value")
    async with persistkit.open_backend(address, read_only=True) as backend:
        assert await backend.load("key") == b"value"
        with pytest.raises(ReadOnlyError):
            await backend.save("key", b"new")


def test_an_empty_address_opens_nothing() -> None:
    """A variable that was never filled does not open the present directory."""
    with pytest.raises(ValueError, match="is empty"):
        open_backend("")


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "valkeys"])
@pytest.mark.parametrize(
    "place",
    ["me:s3cret@host:port/0", "me:s3@cret@host/0", "me:s3/cret@host/0", "me:12/s3cret@host/0", "me:s3#cret@host/0",
     "me:s3?cret@host/0", "me:s3cret@[::1/0", "me:s3cret\u2100@host/0"],
)  # fmt: skip
def test_what_may_tear_a_password_apart_is_refused(scheme: str, place: str) -> None:
    """A password that is not percent-encoded is refused when the backend is made, and no part of it is shown."""
    for refusing in (open_backend, persistkit.open, shown_address):
        with pytest.raises(ValueError, match=r"address .*://") as caught:
            refusing(f"{scheme}://{place}")
        told = "".join(traceback.format_exception(caught.value, limit=0))
        assert not any(part in told for part in ("s3", "cret"))


def test_a_password_percent_encoded_is_the_password() -> None:
    """Every character may be in a password, written as in any URL."""
    backend = open_backend("redis://me:%2F%40%3F%23%3A@host/0")
    assert repr(backend) == "RedisPersistenceBackend('redis://me@host/0', namespace='persistkit:')"
    assert backend._password == "/@?#:"  # type: ignore[attr-defined] # noqa: S105 - what the server will be told


@pytest.mark.parametrize(
    "address", ["redis://host/0?pasword=s3cret", "redis://host/s3cret", "sqlite:///state.db?password=s3cret"]
)
def test_what_an_address_cannot_say_is_refused_when_it_is_opened(address: str) -> None:
    """A mistyped option, or the name of a database where there are numbers, is told at once and not shown."""
    with pytest.raises(ValueError, match=r"redis|sqlite") as caught:
        open_backend(address, **({"create": True} if address.startswith("sqlite") else {}))
    assert "s3cret" not in str(caught.value)


def test_a_pickle_takes_no_password_along() -> None:
    """What goes to a worker holds the options of the address, but no password of any kind."""
    backend = open_backend("rediss://me:s3cret@host/0?ssl_password=s3cret&socket_keepalive=yes&password=s3cret")
    pickled = pickle.dumps(backend)
    assert b"s3cret" not in pickled
    assert b"socket_keepalive=yes" in pickled


@pytest.mark.parametrize(
    "address",
    ["s3://AKIA:s3cret@bucket/x", "s3://AKIA:s3cret/x@bucket/x", "s3://bucket/x?key=s3cret", "s3://bucket/x#s3cret"],
)
def test_credentials_in_the_address_of_a_bucket_are_refused(address: str) -> None:
    """Object stores take none from there: they are refused instead of being dropped, and not shown."""
    for refusing in (persistkit.open, shown_address):
        with pytest.raises(ValueError, match="access_key_id") as caught:
            refusing(address)
        assert not any(part in str(caught.value) for part in ("s3cret", "AKIA"))
    assert shown_address("s3://bucket/team@home") == "s3://bucket/team@home"


@pytest.mark.parametrize("name", ["endpoint", "aws_endpoint_url"])
def test_credentials_in_the_endpoint_are_refused(name: str) -> None:
    """An endpoint with a password is refused without showing it."""
    options: Any = {"region": "us-east-1", name: "http://me:s3cret@host"}  # Any: some option of the engine
    with pytest.raises(ValueError, match="endpoint") as caught:
        open_backend("s3://bucket/x", **options)
    assert "s3cret" not in str(caught.value)


async def test_a_store_that_answers_with_the_credentials_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server repeats of a credential is neither in the error nor in its traceback, wherever it came from."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAS3CRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(asked), asked)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        backend = open_backend("s3://bucket/x", region="us-east-1", endpoint=endpoint, timeout_seconds=5)
        with pytest.raises(StorageError, match="s3://bucket/x") as caught:
            await backend.load("key")
    assert "AKIAS3CRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", ["test-key\n", None, b"test-key"])
def test_an_option_that_is_no_plain_text_is_named(value: Any) -> None:
    """A credential with the end of its line, or none at all, is told at once; obstore panics with the first."""
    with pytest.raises((TypeError, ValueError), match="'access_key_id'") as caught:
        open_backend("s3://bucket/x", region="us-east-1", access_key_id=value)
    assert "test-key" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
async def test_the_endpoint_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each of the engine's variables is asked, plain HTTP included, and none of them may hold a password."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nETag: 1\r\n"
                     b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nvalue")  # fmt: skip
        await writer.drain()
        writer.close()

    options: Any = {"region": "us-east-1", "skip_signature": "true", "timeout_seconds": 5}
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await open_backend("s3://bucket/x", **options).load("key") == b"value"
    monkeypatch.setenv(name, "http://me:s3cret@host")
    with pytest.raises(ValueError, match="endpoint") as caught:
        open_backend("s3://bucket/x", **options)
    assert "s3cret" not in str(caught.value)


async def test_only_what_is_secret_is_hidden_in_an_error(tmp_path: Path) -> None:
    """The place of a socket that is not there is told; an option that is no password is no secret."""
    backend = open_backend(f"postgresql://me:s3cret@/state?host={tmp_path}&connect_timeout=5")
    with pytest.raises(StorageError, match=str(tmp_path)) as caught:
        await backend.load("key")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_sqlite_path_is_taken_as_it_is(tmp_path: Path) -> None:
    """No character of it is decoded, with any SQLAlchemy, and what is shown opens the same file again."""
    folder = tmp_path / "für 100%25"
    folder.mkdir()
    with persistkit.open(f"sqlite:///{folder}/a%20b#1.db", create=True) as store:
        store["run/1"] = 1
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 - made here
    assert (folder / "a%20b#1.db").is_file()
    assert list(again) == ["run/1"]
    again.close()
    assert repr(store.backend) == f"SQLPersistenceBackend('sqlite:///{folder}/a%20b#1.db')"
    with pytest.raises(ValueError, match="options"):
        open_backend("sqlite:///what?is.db", create=True)


def test_an_address_without_a_host_is_shown_whole() -> None:
    """Two slashes and the database stay, and what follows # is not shown."""
    assert shown_address("postgresql:///state?host=/run/sock") == "postgresql:///state"
    assert repr(persistkit.open("redis://host/0#s3cret").backend).startswith(
        "RedisPersistenceBackend('redis://host/0',"
    )


@pytest.mark.parametrize("address", ["sqlite:///state.db", "postgresql://host", "redis://host", "s3://bucket"])
@pytest.mark.parametrize(("timeout", "kind"), [(0, ValueError), (float("inf"), ValueError), (None, TypeError)])
def test_a_time_to_wait_has_an_end(address: str, timeout: Any, kind: type[Exception]) -> None:
    """What is no time to wait is refused when the backend is made, not by the engine later."""
    with pytest.raises(kind, match="timeout_seconds"):
        open_backend(address, create=True, timeout_seconds=timeout)
