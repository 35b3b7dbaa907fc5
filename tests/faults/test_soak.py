"""A soak: processes that do everything to one directory, killed at random, for a bounded time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine

from .report import Report, Trials
from .soak import SHARED, all_keys, own_keys, read

PROCESSES = 4
SOAK_SECONDS = 60
HOUR_AGO = time.time() - 3700


class Life:
    """One process, from its start to its kill, and what it said."""

    def __init__(self, base: Path, kind: str, owner: int, start: int) -> None:
        program = [sys.executable, str(Path(__file__).with_name("soak.py"))]
        arguments = [str(base), kind, str(owner), str(PROCESSES), str(start)]
        self._process = subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE)
        self.events: list[list[str]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # the last one may be cut by the kill
                self.events.append(line.decode().rstrip("\n").split("\t"))

    @property
    def died(self) -> bool:
        """Whether it ended by itself, which it never does."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End it, and hear what it still said."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Account:
    """What may stand under each own key of one process: what was acknowledged last, or what was begun after it."""

    def __init__(self, owner: int) -> None:
        self._possible: dict[str, set[int | None]] = {key: {None} for key in own_keys(owner)}
        self.last = 0
        self.acknowledged = 0

    def take(self, events: list[list[str]]) -> list[str]:
        """Go through what one life said; return what it saw that was wrong."""
        for event in events:
            if event[0] == "wrong":
                continue
            begun, operation, key, number = event
            outcome = int(number) if operation == "save" else None
            self.last = max(self.last, int(number))
            if begun == "begin":
                self._possible[key].add(outcome)
            else:
                self._possible[key] = {outcome}
                self.acknowledged += 1
        return [event[1] for event in events if event[0] == "wrong"]

    def judge(self, engine: FileEngine) -> list[str]:
        """Look under each key while its owner is dead; return what is torn or lost. What is there holds now."""
        wrong = []
        for key, possible in self._possible.items():
            try:
                found = read(key, engine.load(key))
            except ValueError as error:
                wrong.append(str(error))
                continue
            if found not in possible:
                wrong.append(f"lost: {key[:40]!r} is {found}, not one of {possible}")
            self._possible[key] = {found}
        return wrong


def soaked(base: Path, kind: str, seconds: float) -> Trials:
    """Run the processes on ``base`` for a time, killing one after the other; judge what each said and left.

    A control runs until something wrong was found, and no longer than persistkit.
    """
    base.mkdir()
    engine = FileEngine(base)
    trials, generator = Trials(), random.Random(3)
    accounts = [Account(owner) for owner in range(PROCESSES)]
    lives = [Life(base, kind, owner, 0) for owner in range(PROCESSES)]

    def end(owner: int) -> None:
        life, account = lives[owner], accounts[owner]
        assert not life.died, "a process died by itself"
        life.kill()
        trials.add(*account.take(life.events), *account.judge(engine))

    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and not (trials.broken and kind != "kept"):
            time.sleep(generator.uniform(0.1, 0.7))
            owner = generator.randrange(PROCESSES)
            if lives[owner].events or lives[owner].died:
                end(owner)
                lives[owner] = Life(base, kind, owner, accounts[owner].last)
        for owner in range(PROCESSES):
            end(owner)
    finally:
        for life in lives:
            life.kill()
    acknowledged = [account.acknowledged for account in accounts]
    print(f"{kind}: {trials.count} kills, {sum(acknowledged):,} acknowledged changes, wrong: {trials.violations[:3]}")
    if kind == "kept":
        assert all(acknowledged), "a process did nothing"
        trials.add(*left(base, engine))
    return trials


def left(base: Path, engine: FileEngine) -> Iterator[str]:
    """Give what is wrong with the shared keys, then with the listing and the directory after a repair."""
    for key in SHARED:
        try:
            read(key, engine.load(key))
        except ValueError as error:
            yield str(error)
    for path in base.iterdir():
        os.utime(path, (HOUR_AGO, HOUR_AGO))
    engine.check(repair=True)
    for finding in engine.check():
        yield f"left: {finding.problem} {finding.filename[:60]!r}"
    for key in set(engine.list_keys()) - all_keys(PROCESSES):
        yield f"listed {key[:60]!r}"


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_soak_tears_nothing_and_loses_nothing(tmp_path: Path, times: int, report: Report) -> None:
    """Four processes under random kills: nothing torn, nothing acknowledged lost, only true keys listed."""
    controls = [soaked(tmp_path / kind, kind, SOAK_SECONDS) for kind in ("torn", "hasty")]
    kept = soaked(tmp_path / "kept", "kept", SOAK_SECONDS * times)
    report.record("a soak of four processes under random kills: nothing torn, lost or falsely listed", kept, *controls)
