"""Which address leads to which engine, and what is refused before anything is sent."""

from __future__ import annotations

import pickle
import socket
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import servers
from obstore.store import S3Store
from redis import Redis

import persistkit
from persistkit.engine import Engine
from persistkit.engines import open_engine, shown_address
from persistkit.engines.objects import ObjectEngine
from persistkit.errors import ReadOnlyError, StorageError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("memory:", "MemoryEngine()"),
        ("memory://", "MemoryEngine()"),
        ("PostgreSQL://me:s3cret@host:5433/state", "PostgreSQLEngine('postgresql://me@host:5433/state')"),
        ("valkey://:s3cret@host/2", "RedisEngine('valkey://host/2', namespace='persistkit:')"),
        ("redis://host", "RedisEngine('redis://host', namespace='persistkit:')"),
        ("redis://host/0#s3cret", "RedisEngine('redis://host/0', namespace='persistkit:')"),
        ("s3://bucket/some/prefix", "ObjectEngine('s3://bucket/some/prefix')"),
        ("gs://bucket", "ObjectEngine('gs://bucket')"),
    ],
)
def test_an_address_opens_its_engine(address: str, shown: str) -> None:
    """Each scheme leads to its engine, before anything is sent, and the password is not shown."""
    options: dict[str, Any] = {}
    if address.startswith("gs://"):
        options = {"skip_signature": "true"}
    elif address.startswith("s3://"):
        options = {"region": "us-east-1", "secret_access_key": "s3cret", "access_key_id": "k"}
    assert repr(open_engine(address, **options)) == shown


def test_a_sqlite_file_opens_as_a_store(tmp_path: Path) -> None:
    """The same store, by another address; no character of its path is decoded."""
    folder = tmp_path / "für 100%25"
    folder.mkdir()
    address = f"sqlite:///{folder}/a%20b#1.db"
    with persistkit.open(address, create=True) as store:
        store["run/1"] = {"loss": 0.5}
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 - made here
    assert (folder / "a%20b#1.db").is_file()
    with again, persistkit.open(address, read_only=True) as read_only:
        assert dict(again) == dict(read_only) == {"run/1": {"loss": 0.5}}
        with pytest.raises(ReadOnlyError):
            read_only["run/1"] = {}


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path written with a tilde leads home, as in a shell; a directory here that is called so is itself."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    open_engine("~/results", create=True).save("run/1", b"1")
    assert open_engine(home / "results", read_only=True).list_keys() == ["run/1"]
    assert list(here.iterdir()) == []
    (here / "~" / "results").mkdir(parents=True)
    assert open_engine("~/results").list_keys() == []


@pytest.mark.parametrize("address", ["file://host/share", "file://me@host/share", "memory:x", "memory://x", "memory:/"])
def test_a_place_that_cannot_be_is_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file: URL with a host is no relative path, and values in memory have no name; nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"another machine|have no name"):
        open_engine(address, create=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["redis://host", "file:///state", "s3://bucket/x", "https://host/x", "run:1://x"])
def test_an_address_given_for_a_path_makes_no_directory(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes the path of a directory refuses an address, as text and as a path, and makes nothing of its name."""
    monkeypatch.chdir(tmp_path)
    calls: tuple[Callable[[], object], ...] = (
        lambda: persistkit.FilePersistenceBackend(address, create=True),
        lambda: open_engine(Path(address), create=True),
    )
    for call in calls:
        if address.startswith("run:1"):  # two colons: no scheme, but an ordinary name
            call()
            continue
        with pytest.raises(ValueError, match=r"persistkit\.open\(address\)"):
            call()
        assert list(tmp_path.iterdir()) == []


# A password that is not percent-encoded.
TORN = [
    "me:hunter2@host:port/0", "me:hunt@er2@host/0", "me:hunt/er2@host/0", "me:12/hunter2@host/0", "me:hunt#er2@host/0",
    "me:hunt?er2@host/0", "me:hunter2@[::1/0", "me:hunter2\u2100@host/0",
]  # fmt: skip
REFUSED = {
    "address .*://": [f"{scheme}://{place}" for scheme in ("postgresql", "redis", "valkeys") for place in TORN],
    "redis": ["redis://", "redis://host/0?pasword=hunter2", "redis://host/hunter2", "redis://host?protocol=hunter2"],
    "access_key_id": [
        "s3://AKIA:hunter2@bucket/x", "s3://AKIA:hunter2/x@bucket/x", "s3://bucket/x?key=hunter2", "s3://bucket/x#hunter2",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "advice"), [(address, advice) for advice, addresses in REFUSED.items() for address in addresses]
)
def test_what_an_address_cannot_say_is_refused_and_not_shown(address: str, advice: str) -> None:
    """It is told when the engine is made, instead of being dropped, and no part of a password is shown."""
    with pytest.raises(ValueError, match=advice) as caught:
        open_engine(address)
    told = "".join(traceback.format_exception(caught.value, limit=0)) + shown_address(address)
    assert not any(part in told for part in ("hunt", "er2", "AKIA"))
    assert shown_address("s3://bucket/team@home") == "s3://bucket/team@home"


def test_a_password_percent_encoded_is_the_password(valkey_address: str) -> None:
    """Every character may be in a password, written as in any URL: the server takes it."""
    with Redis.from_url(valkey_address.replace("valkey://", "redis://")) as client:
        client.acl_setuser("odd", enabled=True, passwords="+/@?#: %", keys=["*"], categories=["+@all"])
    with open_engine(valkey_address.replace("://", "://odd:%2F%40%3F%23%3A%20%25@")) as engine:
        assert engine.load("missing") is None


def test_a_pickle_takes_no_password_along() -> None:
    """What goes to a worker holds the options of the address, but no password of any kind."""
    engine = open_engine("rediss://me:s3cret@host/0?ssl_password=s3cret&socket_keepalive=yes&password=s3cret")
    pickled = pickle.dumps(engine)
    assert b"s3cret" not in pickled
    assert b"socket_keepalive" in pickled


def answering(answer: Callable[[bytes], bytes]) -> AbstractContextManager[str]:
    """Serve HTTP, one request for each connection, and give host and port."""

    def serve(connection: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked and (part := connection.recv(65_536)):
            asked += part
        connection.sendall(answer(asked))

    return servers.scripted(serve)


@pytest.mark.parametrize("given", ["environment", "store"])
def test_a_store_that_answers_with_the_credentials_is_not_quoted(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """What a server repeats of a credential is neither in the error nor in its traceback, wherever it came from."""

    def repeat(asked: bytes) -> bytes:
        head = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(asked)
        return head + asked

    with answering(repeat) as place:
        endpoint = f"http://{place}"
        if given == "store":
            keys = {"access_key_id": "AKIAS3CRET", "secret_access_key": "s3cret"}
            config: Any = {"endpoint": endpoint, "region": "us-east-1", **keys}
            engine: Engine = ObjectEngine(S3Store("bucket", config=config, client_options={"allow_http": True}))
        else:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAS3CRET")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
            engine = open_engine("s3://bucket/x", region="us-east-1", endpoint=endpoint, timeout_seconds=5)
        with pytest.raises(StorageError, match="403") as caught:
            engine.load("key")
    assert "AKIAS3CRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", ["test-key\n", None, b"test-key"])
def test_an_option_that_is_no_plain_text_is_named(value: Any) -> None:
    """A credential with the end of its line, or none at all, is told at once; obstore panics with the first."""
    with pytest.raises((TypeError, ValueError), match="'access_key_id'") as caught:
        open_engine("s3://bucket/x", region="us-east-1", access_key_id=value)
    assert "test-key" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_the_endpoint_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each of the variables is asked, plain HTTP included, and none of them may hold a password."""

    def value(asked: bytes) -> bytes:  # noqa: ARG001 - whatever is asked
        return (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nETag: 1\r\n"
            b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nvalue"
        )

    options: dict[str, Any] = {"region": "us-east-1", "skip_signature": "true", "timeout_seconds": 5}
    with answering(value) as place:
        endpoint = f"http://{place}"
        monkeypatch.setenv(name, endpoint)
        assert open_engine("s3://bucket/x", **options).load("key") == b"value"
    monkeypatch.setenv(name, "http://me:s3cret@host")
    with pytest.raises(ValueError, match="endpoint") as caught:
        open_engine("s3://bucket/x", **options)
    assert "s3cret" not in str(caught.value)


def test_only_what_is_secret_is_hidden_in_an_error(tmp_path: Path) -> None:
    """The place of a socket that is not there is told; an option that is no password is no secret."""
    engine = open_engine(f"postgresql://me:s3cret@/state?host={tmp_path}&connect_timeout=5")
    with pytest.raises(StorageError, match=str(tmp_path)) as caught:
        engine.load("key")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("address", ["sqlite:///state.db", "postgresql://host", "redis://host", "s3://bucket"])
@pytest.mark.parametrize(("timeout", "kind"), [(0, ValueError), (float("inf"), ValueError), (None, TypeError)])
def test_a_time_to_wait_has_an_end(address: str, timeout: Any, kind: type[Exception]) -> None:
    """What is no time to wait is refused when the engine is made, not by the server later."""
    with pytest.raises(kind, match="timeout_seconds"):
        open_engine(address, create=True, timeout_seconds=timeout)


@pytest.mark.parametrize("name", ["results.zip", "table.PARQUET", "runs.jsonl"])
def test_a_new_directory_is_not_named_as_a_file(name: str, tmp_path: Path) -> None:
    """A path that ends as a file's is refused with the name to write; a directory of that name opens."""
    path = tmp_path / name
    with pytest.raises(StorageError, match=r"the name of a file; write '.*/(results|table|runs)', or make"):
        open_engine(path, create=True)
    assert not path.exists()
    path.mkdir()
    assert open_engine(path).key_count() == 0
