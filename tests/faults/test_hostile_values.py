"""Values made to harm whoever opens them, through every format and every way the library shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persistkit import BlockingBackend, FilePersistenceBackend

from .hostile import hostile_values
from .ledger import Ledger, Trials

# The promise is 2 s and 500 MB; a loaded machine may take its time, memory it may not.
MOST_SECONDS = 30
MOST_MEBIBYTES = 500
PROMISE = "a hostile value is a FormatError or a bounded preview, within 500 MB"
CONTROLLED = ["json arrays 100,000 deep", "npy a shape of 10**18", "parquet a text of 60 KB a million times"]

Opened = Callable[[str, str], list[str]]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every hostile value under its name."""
    base = tmp_path_factory.mktemp("hostile")
    BlockingBackend(FilePersistenceBackend(base, fsync=False)).batch_save(hostile_values())
    return base


@pytest.fixture(scope="module")
def opened(values: Path) -> Iterator[Opened]:
    """Open a value, in a way, in a process of its own: what broke the promise; prints what it took."""
    program = [sys.executable, str(Path(__file__).with_name("opening.py"))]
    worst = [0.0, 0.0]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def open_one(way: str, key: str) -> list[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([way, key, str(values)]), file=process.stdin, flush=True)
            outcome, seconds, mebibytes = json.loads(process.stdout.readline())
            print(f"{way:12} {key:50} {seconds:6.2f} s {mebibytes:7.0f} MiB  {outcome[:80]}")
            if way != "without_care":
                worst[:] = max(worst[0], seconds), max(worst[1], mebibytes)
            broken = [f"{key}: {outcome}"] if outcome.startswith("violation") else []
            if seconds > MOST_SECONDS or mebibytes > MOST_MEBIBYTES:
                broken.append(f"{key}: {seconds:.1f} s, {mebibytes:.0f} MiB")
            return broken

        yield open_one
        process.stdin.close()
    print(f"worst: {worst[0]:.2f} s, {worst[1]:.0f} MiB")


@pytest.mark.parametrize(
    ("way", "begins", "controls"),
    [("in_store", "", CONTROLLED), ("in_table", "json", CONTROLLED[:1]), ("in_browser", "", CONTROLLED[:1])],
)
def test_hostile_values_are_bounded(
    opened: Opened, values: Path, way: str, begins: str, controls: list[str], ledger: Ledger
) -> None:
    """Every hostile value, in every way of opening it, ends in a FormatError or something small, in bounded memory."""
    kept, control = Trials(), Trials()
    for key in BlockingBackend(FilePersistenceBackend(values)).list_keys(begins):
        kept.add(*opened(way, key))
    for key in controls:
        control.add(*opened("without_care", key))
    ledger.record(PROMISE, kept, control)
