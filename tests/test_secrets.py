"""No password is told: not by an error, what it came from, a repr, a pickle or a log record."""

from __future__ import annotations

import contextlib
import logging
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import servers

import persistkit
from persistkit import agents, transfer
from persistkit.backend import EngineBackend, FilePersistenceBackend, open_backend
from persistkit.background import BackendEngine
from persistkit.browser import KeyBrowser, browse
from persistkit.engine import Engine
from persistkit.engines import open_engine, shown_address
from persistkit.engines.files import FileEngine
from persistkit.engines.objects import ObjectEngine
from persistkit.engines.postgresql import PostgreSQLEngine
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.engines.redis import RedisEngine
from persistkit.engines.sqlite import SQLiteEngine
from persistkit.errors import BatchError, StorageError
from persistkit.frames import to_frame
from persistkit.store import Store

SECRET: Final = "hunter2Hunter2"  # noqa: S105 - of nobody
# With a character that an address has to escape: neither form is told.
ODD_SECRET: Final = "hunter2 @Hunter2"  # noqa: S105 - of nobody

ADDRESSES: Final = [
    f"redis://:{SECRET}@127.0.0.1:1",
    f"REDIS://me:{SECRET}@127.0.0.1:1/0?socket_timeout={SECRET}",
    f"redis://:{quote(ODD_SECRET, safe='')}@127.0.0.1:1",
    f"redis://host/{SECRET}",
    f"redis://me:{SECRET}/x@host",
    f"rediss://127.0.0.1:1?ssl_password={SECRET}&protocol={SECRET}",
    f"valkey://127.0.0.1:1?password={SECRET}&db={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:1/db?connect_timeout=1",
    f"postgresql://127.0.0.1:1/db?password={SECRET}&connect_timeout=1",
    f"postgresql://127.0.0.1:1/db?sslpassword={SECRET}&nonsense={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
    f"postgresql://me:{quote(ODD_SECRET, safe='')}@127.0.0.1:1/db",
    f"postgresql://me:s@{SECRET}@127.0.0.1/db",
    f"mysql://me:{SECRET}@host/db",
    f"https://me:{SECRET}@host/path",
    f"sqlite:///no such folder/x.db?password={SECRET}",
    f"file://me:{SECRET}@host/share",
    f"s3://AKIA:{SECRET}@bucket/x",
    f"s3://bucket/x?secret={SECRET}",
    f"ftp://me:{SECRET}@host",
]
MISTAKES: Final[list[dict[str, Any]]] = [
    {},
    {"create": True},
    {"read_only": True},
    {"create": True, "read_only": True},
    {"password": SECRET},
    {"pasword": SECRET},
    {"timeout_seconds": 0.5, "secret_access_key": SECRET, "region": "x", "endpoint": f"http://me:{SECRET}@host"},
    {"timeout_seconds": 0.5, "secret_access_key": f"{SECRET}\n", "region": "x"},
]
OPENERS: Final[list[Callable[..., Any]]] = [persistkit.open, open_engine, open_backend]
# What takes a store, and is given the address of one.
TAKERS: Final[list[Callable[..., Any]]] = [
    Store,
    browse,
    KeyBrowser,
    to_frame,
    lambda address: transfer.copy(address, persistkit.open("memory:")),
    lambda address: transfer.copy(persistkit.open("memory:"), address),
    lambda address: transfer.compare(address, persistkit.open("memory:")),
    agents.sessions_frame,
    agents.steps_frame,
    agents.rust.shutdown_time,
    EngineBackend,
    BackendEngine,
    ReadOnlyEngine,
    FileEngine,
    lambda address: FileEngine(address, create=True),
    lambda address: FileEngine(Path(address)),
    lambda address: persistkit.open(Path(address)),
    FilePersistenceBackend,
    lambda address: FilePersistenceBackend(address, create=True),
    SQLiteEngine,
    PostgreSQLEngine,
    RedisEngine,
    ObjectEngine,
    shown_address,
]
OPERATIONS: Final[list[Callable[[Engine], object]]] = [
    lambda engine: engine.save("key", b"value"),
    lambda engine: engine.load("key"),
    lambda engine: engine.add("key?>", b"value"),
    lambda engine: engine.replace("key", b"new", b"old"),
    lambda engine: engine.batch_save({"key": b"value", "other": b"value"}),
    lambda engine: engine.batch_load(["key", "other"]),
    lambda engine: engine.batch_delete(["key"]),
    lambda engine: engine.list_keys(),
    lambda engine: list(engine.entries()),
    lambda engine: engine.open_reader("key"),
]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Work in an empty folder, where a mistaken address may make what it likes, with every log record kept."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)


def told_by(error: BaseException | None) -> Iterator[str]:
    """Give all that an error tells, and all that it came from, whether a traceback would show it or not."""
    while error is not None:
        yield "".join(traceback.format_exception(error))
        yield f"{error} {error!r} {error.args!r}"
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            yield repr(pickle.dumps(error))
        if isinstance(error, BatchError):
            for failure in error.failures.values():
                yield from told_by(failure)
        yield from told_by(error.__cause__)
        error = error.__context__


def told_by_call(call: Callable[[], object]) -> Iterator[str]:
    """Give all that a call tells, whether it fails or returns something."""
    try:
        result = call()
    except Exception as error:
        yield from told_by(error)
        return
    yield repr(result)
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
        yield repr(pickle.dumps(result))
    if isinstance(result, Store):
        yield str(result._repr_html_())
    engine = getattr(result, "engine", result)
    if isinstance(engine, Engine):
        for operation in OPERATIONS:
            yield from told_by_call(lambda operation=operation: operation(engine))  # type: ignore[misc]
        engine.close()


def check_untold(texts: Iterator[str], caplog: pytest.LogCaptureFixture) -> None:
    """Look for every form of the secrets in what was told, and in the log records."""
    texts_and_records = [*texts, *(f"{record.getMessage()} {vars(record)!r}" for record in caplog.records)]
    assert texts_and_records
    for text in texts_and_records:
        for secret in (SECRET, ODD_SECRET, quote(ODD_SECRET, safe=""), "AKIA"):
            assert secret not in text


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_opened_tells_no_secret(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is opened, rightly or by mistake, and every operation on it that fails, tells no password."""
    for opener in OPENERS:
        for options in MISTAKES:
            given: dict[str, Any] = {"timeout_seconds": 0.5} | options
            check_untold(told_by_call(lambda opener=opener, given=given: opener(address, **given)), caplog)  # type: ignore[misc]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_given_for_a_store_tells_no_secret(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """What takes a store, an engine or a path, and is given an address as text, does not repeat it."""
    for taker in TAKERS:
        check_untold(told_by_call(lambda taker=taker: taker(address)), caplog)  # type: ignore[misc]


@pytest.mark.parametrize("secret", [SECRET, ODD_SECRET])
def test_a_server_that_repeats_what_it_was_sent_is_not_quoted(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not know the command tells its arguments, the password among them."""

    def echo(connection: socket.socket) -> None:
        line = b" ".join(connection.recv(4096).split(b"\r\n"))
        connection.sendall(b"-ERR unknown command, with args beginning with: " + line + b"\r\n")

    with servers.scripted(echo) as place:
        address = f"redis://me:{quote(secret, safe='')}@{place}"
        with RedisEngine(address, timeout_seconds=2) as engine, pytest.raises(StorageError, match="unknown") as caught:
            engine.load("key")
    assert "***" in str(caught.value)
    check_untold(told_by(caught.value), caplog)


def test_refused_credentials_are_not_told(
    valkey_address: str, s3_server: servers.S3Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real servers that refuse a password or a signature make errors that tell the next step, and not the secret."""
    monkeypatch.delenv("REDISCLI_AUTH", raising=False)
    options: dict[str, Any] = {**s3_server.options, "secret_access_key": SECRET}
    refused: list[tuple[Engine, str]] = [
        (RedisEngine(valkey_address.replace("://", f"://me:{SECRET}@")), r"pass password=\.\.\., or set REDISCLI_AUTH"),
        (
            ObjectEngine(f"s3://{s3_server.bucket}/x", **options),
            "403 Forbidden; look whether the credentials",
        ),
    ]
    for engine, advice in refused:
        with pytest.raises(StorageError, match=advice):
            engine.load("key")
        check_untold(told_by_call(lambda engine=engine: engine), caplog)  # type: ignore[misc]
