"""Locks of a key: between processes, and what is left of them when their holder dies or forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from children import in_child

from persistkit import open_engine
from persistkit.engine import Engine
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import ReadOnlyError, StorageError
from persistkit.locking import lease_attempts

HOLDING = """
import os, sys, time
from persistkit import open_engine
engine = open_engine({address!r}, **{options!r})
with engine.lock("key"):
    child = os.fork() if {forks!r} else 1
    if child:
        print(child, flush=True)
    time.sleep(100)
"""


def holder(address: str, options: dict[str, Any], *, forks: bool = False) -> subprocess.Popen[str]:
    """Start a process that holds the lock of ``key``."""
    script = HOLDING.format(address=address, options=options, forks=forks)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def is_locked(engine: Engine) -> bool:
    """Tell whether somebody holds the lock of ``key``."""
    try:
        with engine.lock("key", timeout_seconds=0):
            return False
    except TimeoutError:
        return True


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a child"])
def test_a_lock_ends_with_its_holder(place: tuple[str, dict[str, Any]], forks: bool) -> None:
    """Killed, a process holds nothing any more, even if it had forked a child that lives on."""
    address, options = place
    with open_engine(address, create=True, **options) as engine:
        engine.save("key", b"value")
        with holder(address, options, forks=forks) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            try:
                assert is_locked(engine)
                engine.save("key", b"saved meanwhile")
                process.kill()
                process.wait()
                with engine.lock("key", timeout_seconds=30):
                    assert engine.load("key") == b"saved meanwhile"
            finally:
                if forks:
                    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql", "valkey"], indirect=True)
def test_a_child_does_not_release_what_its_parent_holds(place: tuple[str, dict[str, Any]]) -> None:
    """A child that is forked in the block leaves it, and the parent still has the lock, which the child has not."""
    address, options = place
    with open_engine(address, create=True, **options) as engine, open_engine(address, create=True, **options) as other:

        def leave_the_block() -> None:
            held.__exit__(None, None, None)
            assert is_locked(open_engine(address, **options))

        held = engine.lock("key")
        with held:
            in_child(leave_the_block)
            assert is_locked(other)
        assert not is_locked(other)


def test_the_file_of_locks_is_for_those_who_may_write(tmp_path: Path) -> None:
    """Beside a database it has the database's rights to write, and nobody else may read it."""
    engine = open_engine(f"sqlite:///{tmp_path}/state.db", create=True)
    engine.save("key", b"value")
    (tmp_path / "state.db").chmod(0o664)
    (tmp_path / "link.db").symlink_to(tmp_path / "state.db")
    with engine.lock("key"):
        assert (tmp_path / "state.db-locks").stat().st_mode & 0o777 == 0o660
        with (
            open_engine(f"sqlite:///{tmp_path}/link.db") as same,
            open_engine(f"sqlite:///{tmp_path}/state.db", create=True, table="other") as other,
        ):
            assert is_locked(same)
            assert not is_locked(other)


def test_the_lock_of_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    """Whoever waits does not get the lock in a file that nobody else sees."""
    engine = open_engine(tmp_path)
    waiting = engine._lock_attempts("key")
    with engine.lock("key"):
        assert not next(waiting)
        (tmp_path / ".persistkit-locks").unlink()
    assert next(waiting)
    assert is_locked(open_engine(tmp_path))
    waiting.close()


@pytest.mark.parametrize("address", ["results", "sqlite:///state.db"])
def test_what_is_opened_read_only_cannot_be_locked(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is a file, and nothing may change."""
    monkeypatch.chdir(tmp_path)
    open_engine(address, create=True).save("key", b"value")
    engine = open_engine(address, read_only=True)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ReadOnlyError, match="lock 'key'"), engine.lock("key"):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_lease_is_renewed_while_it_is_held_and_taken_over_when_it_stands_still() -> None:
    """A waiting one gets nothing while the holder lives, and takes over what the dead have left."""
    engine = MemoryEngine()
    held, waiting, other = (lease_attempts(engine, "key", 0.2) for _ in range(3))
    assert next(held)
    lease, renewals, until = engine.load("key.lock"), 0, time.monotonic() + 1
    while time.monotonic() < until:
        assert not next(waiting)
        renewals += lease != engine.load("key.lock")
        lease = engine.load("key.lock")
    assert renewals >= 3
    held.close()
    assert engine.load("key.lock") is None
    assert lease is not None
    engine.save("key.lock", lease)  # as a holder that was killed leaves it
    began = time.monotonic()
    while not next(other):
        time.sleep(0.01)
    assert time.monotonic() - began >= 0.2
    assert not next(waiting)
    other.close()


def test_a_thread_does_not_wait_for_itself() -> None:
    """Whoever holds a lock and asks for it again is told, in the time that was allowed and without one."""
    engine = MemoryEngine()
    with engine.lock("key"):
        for seconds in (None, 0):
            with pytest.raises(RuntimeError, match="'key'"), engine.lock("key", timeout_seconds=seconds):
                pass
    with engine.lock("key"), open_engine("memory:").lock("key"):
        pass


def test_a_lease_overwrites_nothing() -> None:
    """A value of somebody's own, under the key that the lease would have, is an error and stays."""
    engine = MemoryEngine()
    engine.save("key.lock", b"mine")
    with pytest.raises(StorageError, match=r"'key\.lock' is in the way"):
        next(lease_attempts(engine, "key", 0.0))
    assert engine.load("key.lock") == b"mine"


def test_a_lease_that_cannot_be_given_back_keeps_nobody_of_this_process_waiting() -> None:
    """What was done under it counts, and the same thread may ask again, as soon as the storage answers."""
    engine = Leasing()
    with engine.lock("key"):
        engine.is_gone = True
    engine.is_gone = False
    engine.delete("key.lock")  # as it is taken over when it has stood still
    assert not is_locked(engine)


class Leasing(MemoryEngine):
    """An engine whose locks are leases, and that does not answer while ``is_gone``."""

    is_gone = False

    def _lock_attempts(self, key: str) -> Generator[bool, None, None]:
        return lease_attempts(self, key)

    def _load(self, key: str) -> bytes | None:
        if self.is_gone:
            raise StorageError("the storage is gone")
        return super()._load(key)
