"""Crashes: a writer is stopped at a random moment, by kill -9 or by a power cut, again and again.

Tasks of a fork server. A power cut is the shutdown that a file system on a loop-mounted image offers, without flushing
its log: from that moment nothing more reaches the image, and mounting it again recovers what a machine would find.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from persistkit.engines.files import FileEngine
from persistkit.keys import filename_for, needs_owner_file, owner_filename_for

from .mutants import MUTANTS
from .report import Trials

KEYS: Final = ["session:1", "a?>", "runtime/shutdown", "k" * 300]
IMAGE_MEGABYTES: Final = {"ext4": 64, "xfs": 320}
MOST_SECONDS: Final = 0.06
# A broken writer need not be caught more often.
ENOUGH: Final = 3

# FS_IOC_SHUTDOWN, and its flag for a log that is not flushed: linux/fs.h, the same number on ext4 and xfs.
SHUTDOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = 2

# The number of the round that stored a key, None when it was deleted or never stored.
State = dict[str, int | None]


def value_of(number: int) -> bytes:
    """Return the value of a round: its own sha256, then its number again and again; sizes differ."""
    body = struct.pack(">Q", number) * (500 + 12_000 * (number % 3))
    return hashlib.sha256(body).digest() + body


def number_in(value: bytes) -> int | None:
    """Return the number of the round that wrote a value, None when it is not whole."""
    if hashlib.sha256(value[32:]).digest() != value[:32] or len(value) < 40:
        return None
    return int(struct.unpack(">Q", value[32:40])[0])


def change_of(mode: str, number: int) -> State:
    """Return what a round changes: one key in the mode ``single`` or ``stream``, all of them in ``batch``."""
    keys = KEYS if mode == "batch" else [KEYS[number // 5 % 4] if number % 5 == 4 else KEYS[number % 4]]
    return dict.fromkeys(keys, None if number % 5 == 4 else number)


def write_for_ever(mutant: str, base: Path, mode: str, number: int, acknowledgements: int) -> None:
    """Carry out round after round, each acknowledged when it has returned."""
    engine = FileEngine(base)
    acknowledge = os.write
    with MUTANTS[mutant]():
        while True:
            change = change_of(mode, number)
            saved = {key: value_of(stored) for key, stored in change.items() if stored is not None}
            if not saved:
                engine.batch_delete(change)
            elif mode == "stream":
                with engine.open_writer(*saved) as file:
                    file.write(value_of(number))
            else:
                engine.batch_save(saved)
            acknowledge(acknowledgements, b".")
            number += 1


class Process:
    """A directory in which a process dies."""

    answers_when_dead = False

    def __init__(self, folder: Path) -> None:
        self.base = folder / "base"
        self.base.mkdir()

    def crash(self, process: int) -> None:
        """Kill the writer."""
        os.kill(process, signal.SIGKILL)

    def recover(self) -> None:
        """Do nothing: the directory is there."""


class Image(Process):
    """A directory on a loop-mounted file system, whose power is cut."""

    # The writer lives on for a moment, and on xfs the fsync of a directory answers "done" even then.
    answers_when_dead = True

    def __init__(self, folder: Path, system: str) -> None:
        self._image, self._mountpoint = folder / "image", folder / "mounted"
        self._mountpoint.mkdir()
        with open(self._image, "wb") as image:
            image.truncate(IMAGE_MEGABYTES[system] << 20)
        run(f"mkfs.{system}", "-q", "-F" if system == "ext4" else "-f", str(self._image))
        self._mount()
        super().__init__(self._mountpoint)
        run("sync", "-f", str(self.base))

    def crash(self, process: int) -> None:
        """Cut the power, then end the writer, which hears of it as an error at most."""
        mounted = os.open(self._mountpoint, os.O_RDONLY)
        try:
            # Of the image, and never of the file system that it lies on.
            if os.fstat(mounted).st_dev == self._image.stat().st_dev:
                sys.exit(f"{self._mountpoint} is not mounted")
            fcntl.ioctl(mounted, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(mounted)
        super().crash(process)

    def recover(self) -> None:
        """Mount what reached the image."""
        run("umount", str(self._mountpoint))
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self._mountpoint))


def run(*command: str) -> None:
    """Run a program that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")


@contextmanager
def writer(mutant: str, base: Path, mode: str, number: int) -> Iterator[tuple[int, int]]:
    """Fork a writer that begins with the round ``number``; gives its process and its acknowledgements."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)  # so that it ends with the one that listens, however that ends
        try:
            write_for_ever(mutant, base, mode, number, writing)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield process, reading
    finally:
        os.close(reading)


def crash_once(place: Process, mutant: str, mode: str, number: int, moment: random.Random) -> tuple[int, int]:
    """Let a writer begin with the round ``number`` and crash it.

    Returns the number of the first round that was not promised, and of the last that may have begun.
    """
    with writer(mutant, place.base, mode, number) as (process, reading):
        select.select([reading], [], [])
        select.select([], [], [], moment.uniform(0, MOST_SECONDS))
        promised = number + len(os.read(reading, 1 << 16))
        place.crash(process)
        os.waitpid(process, 0)
        begun = promised + sum(len(part) for part in iter(lambda: os.read(reading, 1 << 16), b""))
    place.recover()
    return (promised if place.answers_when_dead else begun), begun


def judge(base: Path, state: State, begun: list[State]) -> Iterator[str]:
    """Give every key that has neither its promised value nor one begun since, and every name that is wrong."""
    for key in KEYS:
        path = base / filename_for(key)
        allowed = {state[key]} | {change[key] for change in begun if key in change}
        if path.exists() and number_in(path.read_bytes()) is None:
            yield f"{key[:20]!r} is torn"
        elif stored_in(path) not in allowed:
            yield f"{key[:20]!r} has round {stored_in(path)}, allowed are {allowed}"
        owner = path.with_name(owner_filename_for(path.name))
        if needs_owner_file(key) and path.exists() and not (owner.exists() and owner.read_bytes() == key.encode()):
            yield f"{key[:20]!r} is stored without its owner file"
    listed = FileEngine(base).list_keys()
    if listed != sorted(key for key in KEYS if (base / filename_for(key)).exists()):
        yield f"listed are {listed}"


def stored_in(path: Path) -> int | None:
    """Return the number of the round that wrote a file, None without one."""
    return number_in(path.read_bytes()) if path.exists() else None


def crash_again_and_again(system: str, mutant: str, mode: str, crashes: int, folder: str) -> dict[str, Any]:
    """Crash so often in the same directory, judging it each time, until it is broken often enough; trials as JSON.

    ``system`` is ``process`` (kill -9), or the file system whose power is cut: ``ext4`` or ``xfs``.
    """
    Path(folder).mkdir()
    place = Process(Path(folder)) if system == "process" else Image(Path(folder), system)
    trials, moment = Trials(), random.Random(crashes)
    state: State = dict.fromkeys(KEYS)
    number = 0
    for _ in range(crashes):
        unpromised, last = crash_once(place, mutant, mode, number, moment)
        for done in range(number, unpromised):
            state |= change_of(mode, done)
        trials.add(*judge(place.base, state, [change_of(mode, begun) for begun in range(unpromised, last + 1)]))
        for temp in place.base.glob(".persistkit-*.tmp"):
            temp.unlink()
        state = {key: stored_in(place.base / filename_for(key)) for key in KEYS}
        number = last + 1
        if trials.broken == ENOUGH:
            break
    return asdict(trials)
