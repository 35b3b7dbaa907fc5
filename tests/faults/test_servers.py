"""Servers that hang, die and come back under the servers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
import servers

from persistkit import open_engine
from persistkit.engine import Engine
from persistkit.errors import BatchError, StorageError

from .report import Report, Trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

TIMEOUT_SECONDS = 2.0
# Measured are 2.1 s; a loaded machine takes its time on top.
LIMIT_SECONDS = TIMEOUT_SECONDS + 3.0
# A server that was started again answers at once, but for a loaded machine.
BACK_SECONDS = 30.0

IN_TIME = "{}: a server that is stopped or dead gives a StorageError within the timeout"
AFTERWARDS = "{}: the first call after the server is back works, and what was acknowledged is there"
SERVERS: dict[str, Callable[[], AbstractContextManager[servers.Server]]] = {
    "PostgreSQL": servers.postgresql,
    "Valkey": partial(servers.valkey, "--appendonly", "yes", "--appendfsync", "always"),
    "S3": servers.s3,
}
# Work that hangs goes on while the test does.
threads = ThreadPoolExecutor(64)


@pytest.fixture(scope="module", params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each server."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(name: str) -> Iterator[servers.Server]:
    """A server of these tests' own."""
    with SERVERS[name]() as running:
        yield running


def opened(server: servers.Server, timeout_seconds: float) -> Engine:
    """Open an engine on the server."""
    options: dict[str, Any] = {**server.options}  # Any: an option may be of any type
    return open_engine(server.address, create=True, timeout_seconds=timeout_seconds, **options)


def read_stream(engine: Engine) -> None:
    """Read a value in chunks."""
    reader = engine.open_reader("old")
    assert reader is not None
    with reader:
        reader.read()


def write_stream(engine: Engine) -> None:
    """Write a value in chunks."""
    with engine.open_writer("doubtful") as writer:
        writer.write(b"new")


OPERATIONS: dict[str, Callable[[Engine], object]] = {
    "save": lambda engine: engine.save("doubtful", b"new"),
    "load": lambda engine: engine.load("old"),
    "load of a missing key": lambda engine: engine.load("missing"),
    "delete": lambda engine: engine.delete("missing"),
    "exists": lambda engine: engine.exists("old"),
    "batch_save": lambda engine: engine.batch_save({"doubtful": b"new", "doubtful?>": b"new"}),
    "batch_load": lambda engine: engine.batch_load(["old", "missing"]),
    "batch_delete": lambda engine: engine.batch_delete(["missing", "gone"]),
    "list_keys": lambda engine: engine.list_keys(),
    "key_count": lambda engine: engine.key_count(),
    "reader": read_stream,
    "writer": write_stream,
}


def failure_of(work: Future[Any], limit_seconds: float) -> list[str]:
    """Return what is wrong with how ``work`` fails: it must be a StorageError, in time."""
    try:
        return [f"answered {work.result(limit_seconds)!r}"]
    except BatchError as error:
        failures = list(error.failures.values())
    except Exception as error:
        failures = [error]
    return [f"{type(failure).__name__}: {failure}" for failure in failures if not isinstance(failure, StorageError)]


def failures(engine: Engine, names: list[str]) -> Trials:
    """Try the operations, all at once, while the server cannot answer."""
    trials, works = Trials(), {name: threads.submit(OPERATIONS[name], engine) for name in names}
    wait(works.values(), LIMIT_SECONDS)
    for name, work in works.items():
        trials.add(*[f"{name}: {text}" for text in failure_of(work, 0)])
    return trials


def handed_on(engine: Engine) -> object:
    """The control of a dead server: hand on what the engine's own client raised."""
    try:
        return engine.load("old")
    except StorageError as error:
        raise error.__cause__ or error from None


def what_is_wrong(engine: Engine, acknowledged: dict[str, bytes]) -> list[str]:
    """Return what is wrong after the server is back: the very first calls must work."""

    def look() -> list[str]:
        lost = [f"lost {key!r}" for key, value in acknowledged.items() if engine.load(key) != value]
        engine.save("after", b"after")
        doubtful = engine.load("doubtful")
        return lost + [f"not whole: {doubtful!r}"] * (doubtful not in (None, b"new"))

    try:
        return threads.submit(look).result(BACK_SECONDS)
    except Exception as error:
        return [f"after it was back: {type(error).__name__}: {error}"]


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_a_server_that_does_not_answer_is_an_error_in_time(
    name: str, server: servers.Server, fault: str, report: Report
) -> None:
    """Every operation fails with a StorageError within the timeout, old connection or new; then everything works.

    A connection that was idle meanwhile is not noticed to have died at all.
    """
    stored = {"old": b"old", "old?>": b"owned"}
    after, too_early, control = Trials(), Trials(), Trials()
    with opened(server, 30.0) as patient, opened(server, TIMEOUT_SECONDS) as known:
        patient.batch_save(dict(stored))
        patient.batch_delete(["doubtful", "doubtful?>"])
        known.load("old")
        with opened(server, TIMEOUT_SECONDS) as unknown:
            if fault == "stopped":
                server.signal(signal.SIGSTOP)
                unmended: Future[Any] = threads.submit(patient.load, "old")  # the control waits
            else:
                server.kill()
                unmended = threads.submit(handed_on, known)
            try:
                kept = failures(known, list(OPERATIONS))
                kept += failures(unknown, ["load", "save", "list_keys"])
                control.add(*failure_of(unmended, 0))
                too_early.add(*what_is_wrong(unknown, stored))
            finally:
                if fault == "stopped":
                    server.signal(signal.SIGCONT)
                else:
                    server.start()
        for engine in (known, patient):
            after.add(*what_is_wrong(engine, stored))
    report.record(IN_TIME.format(name), kept, control)
    report.record(AFTERWARDS.format(name), after, too_early)


def value_of(number: int) -> bytes:
    """Return the value of one save."""
    return b"%06d" % number * 170


def cut_off(server: servers.Server, ahead: int, rounds: int) -> Trials:
    """Kill the server while values are saved, start it again, and look with the next call.

    What was acknowledged is noted; by the control so many saves ahead.
    """
    trials, dice = Trials(), random.Random(1)
    with opened(server, 5.0) as engine:
        for turn in range(rounds):
            acknowledged: dict[str, bytes] = {}

            def write(run: str, acknowledged: dict[str, bytes]) -> None:
                for number in range(100_000):
                    engine.save(f"{run}/{number}", value_of(number))
                    acknowledged[f"{run}/{number + ahead}"] = value_of(number + ahead)

            writing = threads.submit(write, f"run/{ahead}/{turn}", acknowledged)
            while not acknowledged and not writing.done():
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.2))
            server.kill()
            wrong = failure_of(writing, LIMIT_SECONDS + 5.0)
            server.start()
            trials.add(*wrong, *what_is_wrong(engine, acknowledged))
    return trials


def test_acknowledged_values_survive_the_server(name: str, server: servers.Server, times: int, report: Report) -> None:
    """Killed while values are saved: what was acknowledged is there when it is back, and the next call works."""
    kept = cut_off(server, ahead=0, rounds=2 * times)
    report.record(AFTERWARDS.format(name), kept, cut_off(server, ahead=2, rounds=1))
