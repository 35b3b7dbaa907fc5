"""The benchmark commands, at a tiny size: they must not rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONTENDERS = ["bare loop", "persistkit", "obstore", "diskcache", "py-key-value", "zarr"]
NEVER_SYNC = {"obstore", "zarr"}


def run_benchmark(project: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the README names it."""
    command = [sys.executable, str(project / "tests" / "benchmarks" / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows_of(block: str) -> list[str]:
    """Return the names of a table's rows."""
    return [line.split("  ")[0] for line in block.splitlines()[2:]]


def test_one_command_measures_every_contender(project: Path, tmp_path: Path) -> None:
    """The tables hold every contender, persistkit with every operation, and no folder is left behind."""
    options = ("--items", "20", "--rounds", "1", "--size", "1024", "--where", "disk", "--disk-dir", str(tmp_path))
    run = run_benchmark(project, "run.py", *options)
    assert run.returncode == 0, run.stderr
    unsynced, synced = run.stdout.strip().split("\n\n")
    assert rows_of(unsynced) == CONTENDERS
    assert rows_of(synced) == [name for name in CONTENDERS if name not in NEVER_SYNC]
    measured = next(line for line in unsynced.splitlines() if line.startswith("persistkit"))
    assert (measured.count("("), measured.count(".")) == (6, 13)  # seven medians, six of them with a ratio
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [["--items", "0"], ["--where", "moon"]])
def test_wrong_options_are_refused_before_anything_is_measured(project: Path, wrong: list[str]) -> None:
    """An option that makes no sense ends the command with the usage and what is wanted."""
    run = run_benchmark(project, "run.py", *wrong)
    assert (run.returncode, run.stdout) == (2, "")
    assert wrong[0] in run.stderr


def test_engines_are_measured_against_their_own_clients(project: Path) -> None:
    """One command starts an engine and compares every operation with what its own client does."""
    sizes = ("--singles", "5", "--items", "20", "--rounds", "1")
    run = run_benchmark(project, "clients.py", "--only", "sqlite", "files", *sizes)
    assert run.returncode == 0, run.stderr
    store, reads, *awaited = run.stdout.strip().split("\n\n")
    assert rows_of(store) == ["by hand", "diskcache", "persistkit"]
    assert rows_of(reads) == ["load_many", "items"]
    assert all("gathered save" in block and "persistkit" in rows_of(block) for block in awaited)
    assert len(awaited) >= 2
