"""The benchmark command, at a tiny size: it must not rot."""

from __future__ import annotations

import json
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
    """Table, JSON and plot hold every contender, persistkit with every operation, and no folder is left behind."""
    figures, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    disk = tmp_path / "disk"
    disk.mkdir()
    run = run_benchmark(
        project,
        *("--items", "20", "--rounds", "1", "--size", "1024", "--where", "disk", "--disk-dir", str(disk)),
        *("--listing", "20", "--durable", "--import", "--json", str(figures), "--plot", str(picture)),
    )
    assert run.returncode == 0, run.stderr
    document = json.loads(figures.read_text(encoding="utf-8"))
    kinds = [block["kind"] for block in document["blocks"]]
    assert kinds == ["operations", "operations", "listing", "durable", "import"]
    for block in document["blocks"][:2]:
        names = dict.fromkeys(result["contender"] for result in block["results"])
        assert list(names) == [name for name in CONTENDERS if not (block["setting"]["fsync"] and name in NEVER_SYNC)]
        ours = [result for result in block["results"] if result["contender"] == "persistkit"]
        assert [result["operation"] for result in ours] == ALL_OPERATIONS
        assert all(result["ratio"] > 0 for result in ours[:6])
        assert all(len(result["samples"]) == 1 and result["median"] > 0 for result in block["results"])
    for name in CONTENDERS:
        assert f"\n{name} " in run.stdout
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
        ["--json", "/nowhere/figures.json"],
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
    sizes = ["--items", "20", "--listing", "20", "--rounds", "1"]
    run = subprocess.run([*command, "--engine", "sqlite", *sizes], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for title, operations in (("values of", "save load batch_save batch_load"), ("listing 20", "list_keys entries")):
        block = run.stdout[run.stdout.index(f"sqlite, {title}") :].split("\n\n")[0]
        assert "\nby hand " in block
        assert "\npersistkit " in block
        assert all(operation in block for operation in operations.split())
