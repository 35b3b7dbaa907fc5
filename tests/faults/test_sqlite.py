"""A SQLite file that another process holds, and writers that die."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from persistkit import BlockingBackend
from persistkit.backends import open_backend
from persistkit.errors import StorageError

from .ledger import Ledger, Trials

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""

WRITE = """
import os, sys
from hashlib import sha256
from persistkit import BlockingBackend
from persistkit.backends import open_backend
backend = BlockingBackend(open_backend(sys.argv[1], create=True))
number, hasty = int(sys.argv[2]), sys.argv[3] == "hasty"
while True:
    number += 1
    body = os.urandom(16) * 256
    if hasty:
        print(number + 1, flush=True)
    backend.save(f"run/{number}", sha256(body).digest() + body)
    if not hasty:
        print(number, flush=True)
"""


def opened(base: Path, timeout_seconds: float = 30.0) -> BlockingBackend:
    """Open the database of a folder."""
    return BlockingBackend(open_backend(f"sqlite:///{base}/state.db", create=True, timeout_seconds=timeout_seconds))


@contextmanager
def held(base: Path) -> Iterator[None]:
    """Hold the write lock, in another process, until the block ends; that process is killed."""
    program = [sys.executable, "-c", HOLD, f"{base}/state.db"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()


def saved_in_time(backend: BlockingBackend, limit: float) -> list[str]:
    """Return what is wrong with how a save fails while another process holds the lock."""
    started = time.monotonic()
    try:
        backend.save("key", b"new")
    except StorageError as error:
        seconds = time.monotonic() - started
        return [f"after {seconds:.1f} s: {error}"] * (seconds > limit or "locked" not in str(error))
    return ["saved"]


def test_a_held_lock_is_an_error_in_time_and_passes(tmp_path: Path, ledger: Ledger) -> None:
    """While another process writes, loads work and a save fails within the timeout; when that one dies, it works."""
    kept, control = Trials(), Trials()
    with opened(tmp_path, 0.5) as impatient, opened(tmp_path, 6.0) as patient:
        impatient.save("key", b"old")
        patient.load("key")
        with held(tmp_path):
            kept.add(*saved_in_time(impatient, 5.0))
            control.add(*saved_in_time(patient, 5.0))
            assert impatient.load("key") == b"old"
            assert impatient.list_keys() == ["key"]
        for backend in (impatient, patient):
            backend.save("key", b"new")
            assert backend.load("key") == b"new"
    ledger.record("SQLite: another writer's lock is a StorageError within the timeout", kept, control)


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
        with opened(base) as backend:
            values = backend.batch_load([f"run/{number}" for number in acknowledged])
            wrong = [f"lost run/{number}" for number, value in zip(acknowledged, values, strict=True) if value is None]
            listed = backend.batch_load(backend.list_keys("run/"))
            wrong += ["torn" for value in listed if value is None or sha256(value[32:]).digest() != value[:32]]
            backend.save("after", b"after")
        trials.add(*wrong)
    return trials


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, times: int, ledger: Ledger) -> None:
    """Writers killed at random leave every acknowledged value, whole, and no lock."""
    for folder in ("kept", "control"):
        (tmp_path / folder).mkdir()
    kept = killed_writers(tmp_path / "kept", 4 * times, "careful")
    control = killed_writers(tmp_path / "control", 2, "hasty")
    ledger.record("SQLite: a killed writer loses nothing acknowledged and tears nothing", kept, control)
