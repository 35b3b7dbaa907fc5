"""Servers that hang or are gone, and callers who do not want to wait: the same for every engine that asks a server."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import servers

from persistkit.backend import open_backend
from persistkit.batches import UNANSWERED
from persistkit.engine import Engine
from persistkit.engines import open_engine
from persistkit.errors import BatchError, StorageError

KEYS = [f"key:{number}" for number in range(5_000)]


each_server = pytest.mark.parametrize("place", ["postgresql", "valkey", "s3"], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> servers.Server:
    """The server of the place."""
    running: servers.Server = request.getfixturevalue(f"{request.node.callspec.params['place']}_server")
    return running


OPERATIONS: dict[str, Callable[[Engine], object]] = {
    "load": lambda engine: engine.load("key"),
    "save": lambda engine: engine.save("key", b"new"),
    "add": lambda engine: engine.add("other?>", b"new"),
    "list_keys": lambda engine: engine.list_keys(),
    "batch_save": lambda engine: engine.batch_save(dict.fromkeys(KEYS, bytes(2_000))),
    "batch_load": lambda engine: engine.batch_load(KEYS),
    "batch_delete": lambda engine: engine.batch_delete(KEYS),
    "existing": lambda engine: engine.existing(KEYS),
}


def check_failures(engine: Engine, names: list[str], place: str) -> None:
    """See that operations fail in time, a batch with all of its keys, and say where."""
    for name in names:
        began = time.monotonic()
        with pytest.raises((StorageError, BatchError), match=place) as caught:
            OPERATIONS[name](engine)
        assert time.monotonic() - began < 5
        failures = caught.value.failures if isinstance(caught.value, BatchError) else {"": caught.value}
        assert set(failures) in ({""}, set(KEYS))
        assert {getattr(failure, "errno", None) for failure in failures.values()} <= UNANSWERED


@each_server
@pytest.mark.parametrize("names", [["load", "batch_load", "add"], ["save", "batch_delete"], ["list_keys"]])
def test_a_server_that_hangs_is_an_error_within_the_timeout(
    place: tuple[str, dict[str, Any]], server: servers.Server, names: list[str]
) -> None:
    """A stopped server makes an error that tells the timeout, once for a batch; when it goes on, all is well."""
    with open_engine(place[0], create=True, timeout_seconds=0.5, **place[1]) as engine:
        engine.save("key", b"old")
        for name in names:
            assert engine.load("key") in {b"old", b"new"}
            with server.stopped():
                check_failures(engine, [name], "no answer within 0.5 s")
        assert engine.load("key") in {b"old", b"new"}


@pytest.mark.parametrize("place", ["valkey"], indirect=True)
async def test_awaited_calls_to_a_server_that_hangs_fail_together_in_time(
    place: tuple[str, dict[str, Any]], server: servers.Server
) -> None:
    """More calls than there are threads do not wait one for the other; one that is cancelled ends, and all is well."""
    async with open_backend(place[0], timeout_seconds=0.5, **place[1]) as backend:
        await backend.save("key", b"old")
        with server.stopped():
            began = time.monotonic()
            cancelled = asyncio.create_task(backend.load("key"))
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: backend.load("key"),
                lambda: backend.save("key", b"new"),
                lambda: backend.batch_load(KEYS),
            ]
            waiting = asyncio.gather(*(call() for call in calls * 4), return_exceptions=True)
            await asyncio.sleep(0.1)
            cancelled.cancel()
            failures = await waiting
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert time.monotonic() - began < 4
        assert [type(failure) for failure in failures] == [StorageError, StorageError, BatchError] * 4
        assert await backend.load("key") in {b"old", b"new"}


@pytest.mark.parametrize("address", ["postgresql://me:s3cret@{}/state", "redis://:s3cret@{}", "s3://state/x"])
def test_a_server_that_is_not_there_is_an_error_soon(s3_server: servers.S3Server, address: str) -> None:
    """A refused connection is never a missing value, and the message holds no password."""
    place = f"127.0.0.1:{servers.free_port()}"
    options: dict[str, Any] = {"endpoint": f"http://{place}"} if address.startswith("s3:") else {}
    options = s3_server.options | options if options else options
    with open_engine(address.format(place), timeout_seconds=1, **options) as engine:
        check_failures(engine, list(OPERATIONS), r"127\.0\.0\.1|s3://state/x")
        with pytest.raises(StorageError) as caught:
            engine.load("key")
        assert "s3cret" not in str(caught.value)


@each_server
def test_an_interrupt_ends_a_waiting_call_and_its_answer_is_nobody_elses(
    place: tuple[str, dict[str, Any]], server: servers.Server
) -> None:
    """Ctrl-C ends a call, and a batch, soon; an answer that comes later is not taken for that of the next call."""
    with open_engine(place[0], create=True, timeout_seconds=30, **place[1]) as engine:
        engine.batch_save({"one": b"1", "two": b"2"})
        for call in (lambda: engine.load("one"), lambda: engine.batch_load(["one", *KEYS[:100]])):
            assert engine.load("two") == b"2"
            with server.stopped():
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                began = time.monotonic()
                with pytest.raises(KeyboardInterrupt):
                    call()
                assert time.monotonic() - began < 2.5
            assert [engine.load("two") for _ in range(5)] == [b"2"] * 5
