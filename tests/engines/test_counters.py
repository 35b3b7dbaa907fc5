"""``add`` and ``replace`` are atomic among processes: a counter that several of them raise is exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import servers

from persistkit.engines import open_engine

PROCESSES = 3
TIMES = 25


@pytest.fixture(params=["files", "sqlite", "valkey", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """An address that several processes can open, and its options."""
    if request.param == "files":
        return str(tmp_path), {"fsync": False}
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db", {}
    if request.param == "valkey":
        return request.getfixturevalue("valkey_address"), {"namespace": f"{tmp_path}:"}
    server: servers.S3Server = request.getfixturevalue("s3_server")
    return f"s3://{server.bucket}/{server.new_prefix()}", dict(server.options)


@pytest.mark.parametrize("key", ["counter", "counter?>"])
def test_a_counter_raised_by_several_processes_is_exact(place: tuple[str, dict[str, Any]], key: str) -> None:
    """Exactly one process adds the counter, and no step of any other is lost, whatever the key."""
    address, options = place
    script = f"""
from persistkit.engines import open_engine
engine = open_engine({address!r}, create=True, **{options!r})
print(engine.add({key!r}, b"0"), flush=True)
for _ in range({TIMES}):
    while True:
        value = engine.load({key!r})
        if engine.replace({key!r}, b"%d" % (int(value) + 1), value):
            break
"""
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    told = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert sorted(told) == ["False\n"] * (PROCESSES - 1) + ["True\n"]
    with open_engine(address, **options) as engine:
        assert engine.load(key) == b"%d" % (PROCESSES * TIMES)
