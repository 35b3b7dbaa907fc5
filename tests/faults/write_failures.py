"""Write failures: the system refuses to write, for real: full, at a limit, read-only, forbidden.

Tasks of a fork server with mounts of its own: each operation is carried out in a place that refuses, and once more
after the place accepts again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from .crashes import run
from .mutants import MUTANTS, engine_of
from .operations import OPERATIONS, judge, perform, warm_up
from .report import Trials

__all__ = ["MOUNTPOINT", "PLACES", "refuse_each_operation", "share_with_another_user", "warm_up"]

# Everybody may go through it, which is not so of a temporary folder; it is this process's own for a while.
MOUNTPOINT: Final = Path("/mnt")
NOBODY: Final = 65534
SMALL: Final = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how writing is refused.

    Attributes:
        system: the file system, and the options it is mounted with.
        refusing: makes a directory of it refuse while the block runs.
        errno: what the system answers.
        temps: a temp file may be left, because nothing can be removed either.
    """

    system: str
    options: str
    refusing: Callable[[Path], AbstractContextManager[None]]
    errno: int
    temps: bool = False

    @property
    def kind(self) -> str:
        """The row of the table it belongs to."""
        if self.errno in (errno.ENOSPC, errno.EFBIG, errno.EMFILE):
            return "full disk, no inodes, size limit, no descriptors"
        return "read-only, forbidden, immutable, append-only directory"


@contextmanager
def full(base: Path) -> Iterator[None]:
    """Fill the disk to the last byte."""
    filler = base.parent / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextmanager
def crowded(base: Path) -> Iterator[None]:
    """Use every inode."""
    made: list[Path] = []
    with suppress(OSError):
        while True:
            path = base.parent / f"empty{len(made)}"
            path.touch()
            made.append(path)
    yield
    for path in made:
        path.unlink()


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    """Lower a limit of this process."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def without_descriptors(_: Path) -> AbstractContextManager[None]:
    """Leave no descriptor to open a file with."""
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    return limited(resource.RLIMIT_NOFILE, lowest)


@contextmanager
def mounted_read_only(base: Path) -> Iterator[None]:
    """Mount the file system read-only."""
    run("mount", "-o", "remount,ro", str(base.parent))
    yield
    run("mount", "-o", "remount,rw", str(base.parent))


@contextmanager
def forbidden(base: Path) -> Iterator[None]:
    """Be somebody who may read the directory and not write it."""
    base.chmod(0o555)
    with somebody_else():
        yield


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user without rights, as ``setpriv`` makes one, while the block runs."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def attributed(flag: str) -> Callable[[Path], AbstractContextManager[None]]:
    """Return what gives the directory an attribute that binds even root: ``i`` immutable, ``a`` append-only."""

    @contextmanager
    def refusing(base: Path) -> Iterator[None]:
        run("chattr", f"+{flag}", str(base))
        yield
        run("chattr", f"-{flag}", str(base))

    return refusing


PLACES: Final = {
    "full tmpfs": Place("tmpfs", "size=256k", full, errno.ENOSPC),
    "full ext4": Place("ext4", "loop", full, errno.ENOSPC),
    "no inodes": Place("tmpfs", "nr_inodes=40", crowded, errno.ENOSPC),
    "size limit": Place("tmpfs", "size=1m", lambda _: limited(resource.RLIMIT_FSIZE, SMALL), errno.EFBIG),
    "no descriptors": Place("tmpfs", "size=1m", without_descriptors, errno.EMFILE),
    "read-only": Place("tmpfs", "size=1m", mounted_read_only, errno.EROFS),
    "forbidden": Place("tmpfs", "size=1m", forbidden, errno.EACCES),
    "immutable": Place("ext4", "loop", attributed("i"), errno.EPERM),
    "append-only": Place("ext4", "loop", attributed("a"), errno.EPERM, temps=True),
}


def refuse_each_operation(name: str, mutant: str, folder: str) -> dict[str, Any]:
    """Carry each operation out where it is refused, judge it, and see that the next one works; trials as JSON."""
    place, source = PLACES[name], "none"
    if place.system != "tmpfs":
        source = f"{folder}/{mutant}.image"
        with open(source, "wb") as image:
            image.truncate(4 << 20)
        run(f"mkfs.{place.system}", "-q", "-F", source)
    run("mount", "-t", place.system, "-o", place.options, source, str(MOUNTPOINT))
    trials = Trials()
    for number, operation in enumerate(OPERATIONS):
        operation.prepare(base := MOUNTPOINT / str(number))
        engine = engine_of(mutant, base)
        with asyncio.Runner() as runner:
            # The event loop's pipes are made before descriptors run out.
            runner.run(asyncio.sleep(0))
            with place.refusing(base), MUTANTS[mutant]():
                outcome = perform(operation, engine, runner)
        violations = judge(operation, base, outcome, place.errno, temps=place.temps)
        trials.add(*(f"{operation.name}: {violation}" for violation in violations))
        for path in base.iterdir():
            path.unlink()
        base.rmdir()
    return asdict(trials)


def share_with_another_user(mutant: str) -> dict[str, Any]:
    """Carry each operation out as another user than the one who wrote what is there; each must go well."""
    os.umask(0o022)
    run("mount", "-t", "tmpfs", "none", str(MOUNTPOINT))
    trials = Trials()
    for number, operation in enumerate(OPERATIONS):
        operation.prepare(base := MOUNTPOINT / str(number))
        base.chmod(0o777)
        with asyncio.Runner() as runner, somebody_else(), MUTANTS[mutant]():
            outcome = perform(operation, engine_of(mutant, base), runner)
        wrong = [f"refused: {outcome.text}"] if outcome.error else []
        wrong += judge(operation, base, outcome, temps=False)
        trials.add(*(f"{operation.name}: {violation}" for violation in wrong))
    return asdict(trials)
