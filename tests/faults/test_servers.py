"""Servers that hang, die and come back under the servers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import servers

from persistkit.backend import PersistenceBackend, open_backend
from persistkit.errors import BatchError, StorageError

from .report import Report, Trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

TIMEOUT_SECONDS = 2.0
# Measured are 2.1 s; a loaded machine takes its time on top.
GRACE_SECONDS = 3.0
# A server that was started again answers at once, but for a loaded machine.
BACK_SECONDS = 30.0

IN_TIME = "{}: a server that is stopped or dead gives a StorageError within the timeout"
AFTERWARDS = "{}: the first call after the server is back works, and what was acknowledged is there"


@dataclass(frozen=True)
class Service:
    """A server and how to reach it.

    Attributes:
        opened: returns a new backend with the given timeout.
    """

    name: str
    server: servers.Server
    opened: Callable[[float], PersistenceBackend]


@contextmanager
def postgresql() -> Iterator[Service]:
    """PostgreSQL, whose commits survive it."""
    with servers.postgresql_server() as (server, address):
        yield Service("PostgreSQL", server, lambda limit: open_backend(address, create=True, timeout_seconds=limit))


@contextmanager
def valkey() -> Iterator[Service]:
    """Valkey, told to write every change through."""
    with servers.valkey_server("--appendonly", "yes", "--appendfsync", "always") as (server, address):
        yield Service("Valkey", server, lambda limit: open_backend(address, timeout_seconds=limit))


@contextmanager
def s3() -> Iterator[Service]:
    """SeaweedFS."""
    with servers.s3() as found:
        address = f"s3://{found.bucket}/{found.new_prefix()}"
        options: dict[str, Any] = {**found.options}  # Any: an option may be of any type
        yield Service("S3", found.server, lambda limit: open_backend(address, timeout_seconds=limit, **options))


@pytest.fixture(scope="module", params=[postgresql, valkey, s3])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Each of the servers, one after the other."""
    with request.param() as running:
        yield running


async def read_stream(backend: PersistenceBackend) -> None:
    """Read a value in chunks."""
    async with backend.open_reader("old") as reader:
        assert reader is not None
        await reader.read()


async def write_stream(backend: PersistenceBackend) -> None:
    """Write a value in chunks."""
    async with backend.open_writer("doubtful") as writer:
        await writer.write(b"new")


OPERATIONS: dict[str, Callable[[PersistenceBackend], Awaitable[object]]] = {
    "save": lambda backend: backend.save("doubtful", b"new"),
    "load": lambda backend: backend.load("old"),
    "load of a missing key": lambda backend: backend.load("missing"),
    "delete": lambda backend: backend.delete("missing"),
    "exists": lambda backend: backend.exists("old"),
    "batch_save": lambda backend: backend.batch_save({"doubtful": b"new", "doubtful?>": b"new"}),
    "batch_load": lambda backend: backend.batch_load(["old", "missing"]),
    "batch_delete": lambda backend: backend.batch_delete(["missing", "gone"]),
    "list_keys": lambda backend: backend.list_keys(),
    "key_count": lambda backend: backend.key_count(),
    "reader": read_stream,
    "writer": write_stream,
}


async def failure_of(work: Awaitable[object], limit: float) -> list[str]:
    """Return what is wrong with how ``work`` fails: it must be a StorageError, in time; work that hangs goes on."""
    task = asyncio.ensure_future(work)
    _, hanging = await asyncio.wait([task], timeout=limit)
    if hanging:
        task.add_done_callback(asyncio.Task.exception)
        return [f"no answer in {limit:g} s"]
    error = task.exception()
    if error is None:
        return [f"answered {task.result()!r}"]
    failures = error.failures.values() if isinstance(error, BatchError) else [error]
    return [f"{type(failure).__name__}: {failure}" for failure in failures if not isinstance(failure, StorageError)]


async def handed_on(work: Awaitable[object]) -> object:
    """The control of a dead server: hand on what the engine's own client raised."""
    try:
        return await work
    except StorageError as error:
        raise error.__cause__ or error from None


async def failures(backend: PersistenceBackend, limit: float, names: list[str]) -> Trials:
    """Try the operations, all at once, while the server cannot answer."""
    trials = Trials()
    for name, wrong in zip(
        names, await asyncio.gather(*(failure_of(OPERATIONS[name](backend), limit) for name in names)), strict=True
    ):
        trials.add(*[f"{name}: {text}" for text in wrong])
    return trials


async def what_is_wrong(backend: PersistenceBackend, acknowledged: dict[str, bytes]) -> list[str]:
    """Return what is wrong after the server is back: the very first calls must work."""
    try:
        async with asyncio.timeout(BACK_SECONDS):
            wrong = [key for key, value in acknowledged.items() if await backend.load(key) != value]
            await backend.save("after", b"after")
            doubtful = await backend.load("doubtful")
    except Exception as error:
        return [f"after it was back: {type(error).__name__}: {error}"]
    lost = [f"lost {key!r}" for key in wrong]
    return lost + [f"not whole: {doubtful!r}"] * (doubtful not in (None, b"new"))


def stopped(service: Service) -> Callable[[], None]:
    """Stop the server; what is returned lets it go on."""
    service.server.signal(signal.SIGSTOP)
    return lambda: service.server.signal(signal.SIGCONT)


def killed(service: Service) -> Callable[[], None]:
    """Kill the server; what is returned starts it again."""
    service.server.kill()
    return service.server.start


async def unmended(fault: Callable[..., object], known: PersistenceBackend, patient: PersistenceBackend) -> Trials:
    """The control of a server that cannot answer: a backend that waits, or one that hands on the client's own error."""
    if fault is stopped:
        return await failures(patient, TIMEOUT_SECONDS + GRACE_SECONDS, ["load"])
    control = Trials()
    control.add(*await failure_of(handed_on(known.load("old")), TIMEOUT_SECONDS + GRACE_SECONDS))
    return control


@pytest.mark.parametrize("fault", [stopped, killed])
async def test_a_server_that_does_not_answer_is_an_error_in_time(
    service: Service, fault: Callable[[Service], Callable[[], None]], report: Report
) -> None:
    """Every operation fails with a StorageError within the timeout, old connection or new; then everything works.

    A connection that was idle meanwhile is not noticed to have died at all.
    """
    stored, limit = {"old": b"old", "old?>": b"owned"}, TIMEOUT_SECONDS + GRACE_SECONDS
    after, too_early = Trials(), Trials()
    async with service.opened(30.0) as patient, service.opened(TIMEOUT_SECONDS) as known:
        await patient.batch_save(dict(stored))
        await patient.batch_delete(["doubtful", "doubtful?>"])
        await known.load("old")
        mend = fault(service)
        try:
            async with service.opened(TIMEOUT_SECONDS) as unknown:
                kept, of_unknown, control, wrong = await asyncio.gather(
                    failures(known, limit, list(OPERATIONS)),
                    failures(unknown, limit, ["load", "save", "list_keys"]),
                    unmended(fault, known, patient),
                    what_is_wrong(unknown, stored),
                )
        finally:
            mend()
        too_early.add(*wrong)
        for backend in (known, patient):
            after.add(*await what_is_wrong(backend, stored))
    kept += of_unknown
    report.record(IN_TIME.format(service.name), kept, control)
    report.record(AFTERWARDS.format(service.name), after, too_early)


async def written(backend: PersistenceBackend, acknowledged: dict[str, bytes], hasty: bool) -> None:
    """Save one value after the other and note what was acknowledged; the control is always one ahead."""
    held: dict[str, bytes] = {}
    for number in range(100_000):
        new = {f"run/{number}": os.urandom(16) * 64}
        now, held = (held, new) if hasty else (new, {})
        acknowledged |= held
        for key, value in now.items():
            await backend.save(key, value)
        acknowledged |= now


async def cut_off(service: Service, hasty: bool, rounds: int) -> Trials:
    """Kill the server while values are saved, start it again, and look with the next call."""
    trials = Trials()
    generator = random.Random(1)
    async with service.opened(5.0) as backend:
        for _ in range(rounds):
            acknowledged: dict[str, bytes] = {}
            writing = asyncio.ensure_future(written(backend, acknowledged, hasty))
            while not acknowledged and not writing.done():
                await asyncio.sleep(0.001)
            await asyncio.sleep(generator.uniform(0, 0.2))
            service.server.signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)
            service.server.kill()
            wrong = await failure_of(writing, 5.0 + GRACE_SECONDS)
            await asyncio.to_thread(service.server.start)
            trials.add(*wrong, *await what_is_wrong(backend, acknowledged))
    return trials


async def test_acknowledged_values_survive_the_server(service: Service, times: int, report: Report) -> None:
    """Killed while values are saved: what was acknowledged is there when it is back, and the next call works."""
    kept = await cut_off(service, hasty=False, rounds=2 * times)
    control = await cut_off(service, hasty=True, rounds=1)
    report.record(AFTERWARDS.format(service.name), kept, control)
