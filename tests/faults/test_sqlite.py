"""A SQLite file that another process holds, and writers that die."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from errno import ETIMEDOUT
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path

import pytest

from persistkit.backend import PersistenceBackend, open_backend
from persistkit.engine import Engine
from persistkit.engines import open_engine
from persistkit.errors import BatchError, StorageError

from .report import Report, Trials
from .test_cancellation import MILLISECONDS, going_on

WRITE = """
import os, sys
from hashlib import sha256
from persistkit.engines import open_engine
engine = open_engine(sys.argv[1], create=True)
number, hasty = int(sys.argv[2]), sys.argv[3] == "hasty"
while True:
    number += 1
    body = os.urandom(16) * 256
    if hasty:
        print(number + 1, flush=True)
    engine.save(f"run/{number}", sha256(body).digest() + body)
    if not hasty:
        print(number, flush=True)
"""


def opened(base: Path, timeout_seconds: float = 30.0) -> Engine:
    """Open the database of a folder."""
    return open_engine(f"sqlite:///{base}/state.db", create=True, timeout_seconds=timeout_seconds)


def saved_in_time(engine: Engine, limit: float) -> list[str]:
    """Return what is wrong with how a save fails while another process holds the lock."""
    started = time.monotonic()
    try:
        engine.save("key", b"new")
    except StorageError as error:
        seconds = time.monotonic() - started
        is_told = error.errno == ETIMEDOUT and "save 'key'" in str(error) and "locked" in str(error)
        return [f"after {seconds:.1f} s: {error}"] * (seconds > limit or not is_told)
    return ["saved"]


def test_a_held_lock_is_an_error_in_time_and_passes(tmp_path: Path, report: Report) -> None:
    """While somebody else writes, loads work and a save fails within the timeout; afterwards it works."""
    kept, control = Trials(), Trials()
    with opened(tmp_path, 0.5) as impatient, opened(tmp_path, 6.0) as patient:
        impatient.save("key", b"old")
        patient.load("key")
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            kept.add(*saved_in_time(impatient, 5.0))
            control.add(*saved_in_time(patient, 5.0))
            assert impatient.load("key") == b"old"
            assert impatient.list_keys() == ["key"]
            with pytest.raises(BatchError, match=r"locked.*nothing of the batch"):
                impatient.batch_save({"key": b"new"})
        for engine in (impatient, patient):
            engine.save("key", b"new")
            assert engine.load("key") == b"new"
    report.record("SQLite: another writer's lock is a StorageError within the timeout", kept, control)


def killed_writers(base: Path, rounds: int, how: str) -> Trials:
    """Kill a writer at random, again and again; what it acknowledged must be there, whole."""
    trials = Trials()
    generator = random.Random(2)
    last = 0
    for _ in range(rounds):
        program = [sys.executable, "-c", WRITE, f"sqlite:///{base}/state.db", str(last), how]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged = [int(process.stdout.readline())]
            time.sleep(generator.uniform(0, 0.05))
            process.kill()
            acknowledged += [int(line) for line in process.stdout]
        last = acknowledged[-1] + 1
        with opened(base) as engine:
            values = engine.batch_load([f"run/{number}" for number in acknowledged])
            wrong = [f"lost run/{number}" for number, value in zip(acknowledged, values, strict=True) if value is None]
            listed = engine.batch_load(engine.list_keys("run/"))
            wrong += ["torn" for value in listed if value is None or sha256(value[32:]).digest() != value[:32]]
            engine.save("after", b"after")
        trials.add(*wrong)
    return trials


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, times: int, report: Report) -> None:
    """Writers killed at random leave every acknowledged value, whole, and no lock."""
    for folder in ("kept", "control"):
        (tmp_path / folder).mkdir()
    kept = killed_writers(tmp_path / "kept", 4 * times, "careful")
    control = killed_writers(tmp_path / "control", 2, "hasty")
    report.record("SQLite: a killed writer loses nothing acknowledged and tears nothing", kept, control)


async def write_stream(backend: PersistenceBackend) -> None:
    """Write a value in chunks."""
    async with backend.open_writer("key") as writer:
        for letter in (b"n", b"e", b"w"):
            await writer.write(letter)


OPERATIONS: dict[str, Callable[[PersistenceBackend], Awaitable[object]]] = {
    "save": lambda backend: backend.save("key", b"new"),
    "delete": lambda backend: backend.delete("key"),
    "batch_save": lambda backend: backend.batch_save({"key": b"new", "other": b"new"}),
    "batch_delete": lambda backend: backend.batch_delete(["key", "other"]),
    "open_writer": write_stream,
    "load": lambda backend: backend.load("key"),
}
LOCKED_SECONDS = 0.02


async def cancel_at(milliseconds: int, operation: str, base: Path, how: Callable[..., Awaitable[object]]) -> list[str]:
    """Cancel an operation that a short lock holds up; return what that broke."""
    database = base / "state.db"
    async with open_backend(f"sqlite:///{database}", create=True) as backend:
        await backend.batch_save({"key": b"old", "kept": b"kept"})
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            rows = partial(connection.execute, "SELECT key, value FROM persistkit ORDER BY key")
            connection.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(LOCKED_SECONDS, connection.execute, "ROLLBACK")
            task = asyncio.ensure_future(how(OPERATIONS[operation](backend)))
            await asyncio.sleep(milliseconds / 1000)
            task.cancel()
            await asyncio.wait([task])
            seen = rows().fetchall()
            await asyncio.sleep(2 * LOCKED_SECONDS)
            await backend.save("next", b"next")
            left = [row for row in rows().fetchall() if row[0] != b"next"]
    values = {bytes(value) for _, value in left}
    return ["the rows changed after the cancellation"] * (seen != left) + [f"torn: {values}"] * (
        not values <= {b"old", b"new", b"kept"} or (b"kept", b"kept") not in left
    )


async def cancel_everything(folder: Path, how: Callable[..., Awaitable[object]]) -> Trials:
    """Cancel every write, and a load, at every moment."""
    trials = Trials()
    for operation, milliseconds in product(OPERATIONS, MILLISECONDS):
        base = folder / f"{operation} {milliseconds}"
        base.mkdir(parents=True)
        wrong = await cancel_at(milliseconds, operation, base, how)
        trials.add(*(f"{operation} at {milliseconds} ms: {text}" for text in wrong))
    return trials


async def test_cancelling_at_any_moment(tmp_path: Path, report: Report) -> None:
    """Each write, cancelled while it waits for a lock or works: whole values, and nothing changes afterwards."""
    kept = await cancel_everything(tmp_path / "kept", asyncio.ensure_future)
    control = await cancel_everything(tmp_path / "control", going_on)
    report.record("SQLite: cancelled at 0, 1, 5, 50 ms, every write: whole, and nothing afterwards", kept, control)
