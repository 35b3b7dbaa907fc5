"""Stores in workers: processes of every start method, joblib, threads, and an event loop of one's own."""

from __future__ import annotations

import errno
import json
import os
import pickle
import pickletools
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit import EngineBackend, FilePersistenceBackend, MemoryPersistenceBackend, open_engine
from persistkit.engines.memory import MemoryEngine
from persistkit.engines.objects import ObjectEngine
from persistkit.errors import StorageError

WORKERS = """
import json, multiprocessing, sys
import persistkit


def work(store, number):
    store[f"worker/{number}"] = store["parent"] + number
    return repr(store)


if __name__ == "__main__":
    method, address, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    store = persistkit.open(address, create=True, **options)
    store["parent"] = 10
    with multiprocessing.get_context(method).Pool(2) as pool:
        seen = pool.starmap(work, [(store, number) for number in range(4)])
    assert set(seen) == {repr(store)}, seen
    assert {number: store[f"worker/{number}"] for number in range(4)} == {0: 10, 1: 11, 2: 12, 3: 13}
    store.close()
"""

JOBLIB = """
import sys
from joblib import Parallel, delayed
import persistkit


def work(store, number):
    store[f"worker/{number}"] = number
    return store.address


if __name__ == "__main__":
    store = persistkit.open(sys.argv[1], create=True)
    seen = Parallel(n_jobs=2, backend=sys.argv[2])(delayed(work)(store, number) for number in range(4))
    assert set(seen) == {store.address}, seen
"""

GONE = """
import multiprocessing, shutil, sys
import persistkit
from persistkit.errors import StorageError


def work(store):
    return store["key"]


if __name__ == "__main__":
    store = persistkit.open(sys.argv[1])
    shutil.rmtree(sys.argv[2])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            pool.apply(work, (store,))
        except StorageError as error:
            print(error)
"""


def environment() -> dict[str, str]:
    """Return what leads another interpreter to the persistkit under test, source or wheel, from any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(persistkit.__file__).parent.parent)}


def run(script: str, folder: Path, *arguments: str) -> str:
    """Run a script as a file, as multiprocessing needs it, and return what it printed."""
    path = folder / "script.py"
    path.write_text(script)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(path), *arguments]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=folder, env=environment(), check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.mark.parametrize(
    ("place", "method"),
    [
        *product(["files", "sqlite"], ["fork", "spawn", "forkserver"]),
        *product(["valkey"], ["fork", "spawn"]),
        ("s3", "spawn"),
    ],
    indirect=["place"],
)
def test_worker_processes_share_a_store(
    place: tuple[str, dict[str, Any]], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store handed to workers is the same there, options included; credentials come from their environment."""
    address, options = place
    for name in options.keys() & {"access_key_id", "secret_access_key"}:
        monkeypatch.setenv(f"AWS_{name.upper()}", options[name])
    run(WORKERS, tmp_path, method, address, json.dumps(options))
    with persistkit.open(address, **options) as store:
        assert len(store) == 5


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_workers_share_a_store(backend: str, tmp_path: Path) -> None:
    """Each of joblib's ways to work in parallel takes a store along."""
    run(JOBLIB, tmp_path, "results", backend)
    assert sorted(persistkit.open(tmp_path / "results")) == [f"worker/{number}" for number in range(4)]


@pytest.mark.parametrize("engine", ["files", "sqlite"])
def test_a_place_that_is_gone_is_an_error_in_the_worker(engine: str, tmp_path: Path) -> None:
    """A worker that finds nothing there says so; the pool does not hang, and no empty store is made."""
    folder = tmp_path / "place"
    address = str(folder) if engine == "files" else f"sqlite:///{folder}/state.db"
    folder.mkdir()
    with persistkit.open(address, create=True) as store:
        store["key"] = 1
    assert str(folder) in run(GONE, tmp_path, address, str(folder))
    assert not folder.exists()


def test_a_sqlite_file_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """Between opening and the first use the file may vanish: an error, not an empty database."""
    address = f"sqlite:///{tmp_path}/state.db"
    with persistkit.open(address, create=True) as store:
        store["key"] = 1
    store = persistkit.open(address)
    (tmp_path / "state.db").unlink()
    with pytest.raises(StorageError, match="no such file"):
        len(store)
    assert not (tmp_path / "state.db").exists()


PICKLED: dict[str, Callable[[Path], Any]] = {
    "files": lambda folder: open_engine(folder, fsync=False),
    "sqlite": lambda folder: open_engine(f"sqlite:///{folder}/state.db", create=True, table="runs", timeout_seconds=5),
    "postgresql": lambda _: open_engine("postgresql://me:s3cret@host/db?sslmode=require&password=s3cret"),
    "redis": lambda _: open_engine("rediss://me:s3cret@host/1", namespace="runs:", timeout_seconds=5),
    "s3": lambda _: open_engine(
        "s3://bucket/runs",
        endpoint="http://127.0.0.1:1",
        region="us-east-1",
        access_key_id="s3cret",
        secret_access_key="s3cret",  # noqa: S106
    ),
    "backend": lambda _: EngineBackend(open_engine("rediss://me:s3cret@host/1")),
    "backend of files": lambda folder: FilePersistenceBackend(folder, fsync=False),
    "store": lambda _: persistkit.open("postgresql://me:s3cret@host/db"),
    "read only store": lambda folder: persistkit.open(folder, read_only=True),
}


def told(pickled: bytes) -> set[object]:
    """Return every text, number and truth a pickle holds."""
    return {argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, (str, float, int))}


@pytest.mark.parametrize("made", PICKLED.values(), ids=PICKLED)
def test_a_pickle_keeps_the_options_and_no_secret(made: Callable[[Path], Any], tmp_path: Path) -> None:
    """What is reopened has the same place and options, and no secret travels."""
    original = made(tmp_path)
    pickled = pickle.dumps(original)
    again = pickle.loads(pickled)  # noqa: S301 - its own bytes
    assert type(again) is type(original)
    assert repr(again) == repr(original)
    assert told(pickle.dumps(again)) == told(pickled)
    assert b"s3cret" not in pickled
    assert "s3cret" not in repr(again)


def test_what_cannot_be_reopened_is_not_pickled() -> None:
    """Memory, and a client object with its credentials, say what to open instead."""
    from obstore.store import MemoryStore, S3Store

    with_secret = S3Store("bucket", config={"region": "us-east-1", "access_key_id": "k", "secret_access_key": "s3cret"})
    refused: list[tuple[Any, str]] = [
        (MemoryEngine(), r"open a directory: persistkit\.open"),
        (MemoryPersistenceBackend(), r"open a directory: persistkit\.open"),
        (persistkit.open("memory:"), r"open a directory: persistkit\.open"),
        (ObjectEngine(MemoryStore()), "s3://bucket/prefix"),
        (ObjectEngine(with_secret), "s3://bucket/prefix"),
    ]
    for backend, advice in refused:
        with pytest.raises(TypeError, match=advice):
            pickle.dumps(backend)


class PlaceError(StorageError):
    """What somebody's own engine may raise, with arguments of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(f"nothing at {place}", errno=errno.ENOENT)


@pytest.mark.parametrize("error", [StorageError("nothing at here", errno=errno.ENOENT), PlaceError("here")])
def test_a_storage_error_comes_back_from_a_worker(error: StorageError) -> None:
    """Text and errno arrive, and what a subclass asks for when it is made keeps no pool waiting."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    assert isinstance(again, StorageError)
    assert (str(again), again.errno) == (str(error), errno.ENOENT)


def test_a_script_of_one_line_needs_no_closing(tmp_path: Path) -> None:
    """A plain script that never closes its stores ends by itself, and silently."""
    script = """
import asyncio, persistkit
from persistkit import EngineBackend
for address in ("results", "sqlite:///state.db", "memory:"):
    store = persistkit.open(address, create=True)
    store["key"] = 1
    asyncio.run(EngineBackend(store.engine).save("other", b"1"))
    assert store["key"] == 1
"""
    assert run(script, tmp_path) == ""
