"""A crowd: processes that write the same keys while others read and list them.

    python -m faults.crowd WRITER SECONDS FOLDER

Prints the trials as JSON: one for each read, and one for what is left at the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from . import broken
from .broken import Directory, backend_of
from .crashes import KEYS, number_in, value_of
from .trials import Trials

WRITERS: Final = 4
READERS: Final = 2


def write(directory: Directory, worker: int) -> Iterator[str]:
    """Save every key again and again, sometimes all at once."""
    number = worker
    while True:
        number += WRITERS
        if number % 3:
            directory.save(KEYS[number % len(KEYS)], value_of(number))
        else:
            directory.batch_save(dict.fromkeys(KEYS, value_of(number)))
        yield ""


def read(directory: Directory, worker: int) -> Iterator[str]:
    """Load or list again and again; give what was wrong each time, nothing when it was right."""
    number = worker
    while True:
        number += 1
        key = KEYS[number % len(KEYS)]
        if number % 50 == 0:
            listed = directory.list_keys()
            yield "" if listed == sorted(KEYS) else f"listed were {listed}"
        elif (value := directory.load(key)) is None:
            yield f"{key[:20]!r} was missing"
        else:
            yield "" if number_in(value) is not None else f"{key[:20]!r} was torn"


def work(
    kind: str,
    base: Path,
    seconds: float,
    job: Callable[[Directory, int], Iterator[str]],
    worker: int,
    results: Connection,
) -> None:
    """Do one job for so long and send its trials."""
    trials, end = Trials(), time.monotonic() + seconds
    backend = backend_of(getattr(broken, kind), base, fsync=False)
    for wrong in job(backend.blocking_core, worker):
        trials.add(*[wrong] * bool(wrong))
        if time.monotonic() > end:
            break
    with closing(results):
        results.send(asdict(trials))


def crowd(kind: str, seconds: float, base: Path) -> Trials:
    """Let everybody work at once; return what the readers saw, and what is left."""
    backend_of(Directory, base, fsync=False).blocking_core.batch_save(dict.fromkeys(KEYS, value_of(0)))
    context = get_context("fork")
    jobs = [(write, worker) for worker in range(WRITERS)] + [(read, worker) for worker in range(READERS)]
    trials, running = Trials(), []
    for job, worker in jobs:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(kind, base, seconds, job, worker, sending))
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
    return trials


if __name__ == "__main__":
    print(json.dumps(asdict(crowd(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))))
