"""The benchmark command, at a tiny size: it must not rot."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

CONTENDERS = ["bare loop", "persistkit", "aiofiles", "obstore", "diskcache", "py-key-value", "zarr", "sqlite3"]
NEVER_SYNC = {"obstore", "zarr"}
ALL_OPERATIONS = ["save", "load", "await save", "await load", "batch_save", "batch_load", "list_keys", "to_frame"]


def run_benchmark(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command as the README names it."""
    command = [sys.executable, str(project / "tests" / "benchmarks" / "run.py"), "--quiet", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def description_of(picture: bytes) -> str:
    """Return the description inside a PNG, which holds the names drawn."""
    place = 8
    while place < len(picture):
        size, kind = struct.unpack(">I4s", picture[place : place + 8])
        name, _, text = picture[place + 8 : place + 8 + size].partition(b"\0")
        if kind == b"tEXt" and name == b"Description":
            return text.decode("latin-1")
        place += size + 12
    return ""


def test_one_command_measures_every_contender(project: Path, tmp_path: Path) -> None:
    """Tables and plot hold every contender, persistkit with every operation, and no folder is left behind."""
    picture, disk = tmp_path / "figures.png", tmp_path / "disk"
    disk.mkdir()
    run = run_benchmark(
        project,
        *("--items", "20", "--rounds", "1", "--size", "1024", "--where", "disk", "--disk-dir", str(disk)),
        *("--listing", "20", "--import", "--plot", str(picture)),
    )
    assert run.returncode == 0, run.stderr
    unsynced, synced, listing, imports = run.stdout.split("\n\n")
    rows = {row.split("  ")[0]: row for row in unsynced.splitlines()[2:]}
    assert list(rows) == CONTENDERS
    assert [row.split("  ")[0] for row in synced.splitlines()[2:]] == [c for c in CONTENDERS if c not in NEVER_SYNC]
    assert unsynced.splitlines()[1].split("  ")[-1].strip() == ALL_OPERATIONS[-1]
    assert len(re.sub(r"\(.*?\)", "", rows["persistkit"]).split()) == 1 + len(ALL_OPERATIONS)
    assert "file paths" in listing
    assert "persistkit, files used" in imports
    for drawn in (picture, tmp_path / "figures-dark.png"):
        content = drawn.read_bytes()
        assert content.startswith(b"\x89PNG\r\n")
        assert set(description_of(content).split(", ")) == set(CONTENDERS)
    assert not list(disk.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        ["--items", "0"],
        ["--where", "moon"],
        ["--plot", "figures.svg"],
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(project: Path, wrong: list[str]) -> None:
    """An option that makes no sense ends the command with the usage and what is wanted."""
    run = run_benchmark(project, *wrong)
    assert run.returncode == 2
    assert wrong[0] in run.stderr
    assert run.stdout == ""


def test_engines_are_measured_against_their_own_clients(project: Path) -> None:
    """One command starts an engine and compares every operation with what its own client does."""
    command = [sys.executable, str(project / "tests" / "benchmarks" / "clients.py")]
    sizes = ["--singles", "5", "--items", "20", "--rounds", "1"]
    run = subprocess.run([*command, "--only", "sqlite", "files", *sizes], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    store, reads, *awaited = [block for block in run.stdout.split("\n\n") if block.strip()]
    assert [line.split("  ")[0] for line in store.splitlines()[2:]] == ["by hand", "diskcache", "persistkit"]
    assert [line.split("  ")[0] for line in reads.splitlines()[2:]] == ["load_many", "items"]
    assert all("gathered save" in block and "\npersistkit " in block for block in awaited)
    assert len(awaited) >= 2
