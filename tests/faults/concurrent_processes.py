"""Concurrent processes: some write the same keys while others read and list them. A task of a fork server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from persistkit.engines.files import FileEngine

from .crashes import KEYS, number_in, value_of
from .mutants import MUTANTS
from .report import Trials

WRITERS: Final = 4
READERS: Final = 2


def write(engine: FileEngine, worker: int) -> Iterator[str]:
    """Save every key again and again, sometimes all at once."""
    number = worker
    while True:
        number += WRITERS
        if number % 3:
            engine.save(KEYS[number % len(KEYS)], value_of(number))
        else:
            engine.batch_save(dict.fromkeys(KEYS, value_of(number)))
        yield ""


def read(engine: FileEngine, worker: int) -> Iterator[str]:
    """Load or list again and again; give what was wrong each time, nothing when it was right."""
    number = worker
    while True:
        number += 1
        key = KEYS[number % len(KEYS)]
        if number % 50 == 0:
            listed = engine.list_keys()
            yield "" if listed == sorted(KEYS) else f"listed were {listed}"
        elif (value := engine.load(key)) is None:
            yield f"{key[:20]!r} was missing"
        else:
            yield "" if number_in(value) is not None else f"{key[:20]!r} was torn"


def work(
    mutant: str,
    base: Path,
    seconds: float,
    job: Callable[[FileEngine, int], Iterator[str]],
    worker: int,
    results: Connection,
) -> None:
    """Do one job for so long and send its trials."""
    trials, end = Trials(), time.monotonic() + seconds
    with MUTANTS[mutant]():
        for wrong in job(FileEngine(base, fsync=False), worker):
            trials.add(*[wrong] * bool(wrong))
            if time.monotonic() > end:
                break
    with closing(results):
        results.send(asdict(trials))


def work_at_once(mutant: str, seconds: float, base: str) -> dict[str, Any]:
    """Let everybody work at once; return what the readers saw, and what is left, as JSON."""
    FileEngine(base, create=True, fsync=False).batch_save(dict.fromkeys(KEYS, value_of(0)))
    context = get_context("fork")
    jobs = [(write, worker) for worker in range(WRITERS)] + [(read, worker) for worker in range(READERS)]
    trials, running = Trials(), []
    for job, worker in jobs:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(mutant, Path(base), seconds, job, worker, sending))
        process.start()
        sending.close()
        running.append((job, process, receiving))
    for job, process, receiving in running:
        seen = Trials(**receiving.recv())
        process.join()
        if job is read:
            trials += seen
    left = [f"{name} is left" for name in os.listdir(base) if name.endswith(".tmp")]
    trials.add(*left)
    return asdict(trials)
