"""Refusals: the system refuses to write, for real: full, at a limit, read-only, forbidden.

    unshare --mount python -m faults.refusals PLACE WRITER FOLDER

Each deed is carried out in a place that refuses, once before and once after; prints the trials as JSON.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from . import broken
from .broken import Directory, backend_of
from .crashes import run
from .deeds import DEEDS, Deed, Outcome, judge, perform
from .trials import Trials
from .zygote import warm_up

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


def refuse_each_deed(place: Place, kind: type[Directory], mountpoint: Path) -> Trials:
    """Carry each deed out where it is refused, judge it, and see that the next one works."""
    trials = Trials()
    for number, deed in enumerate(DEEDS):
        base = mountpoint / str(number)
        deed.prepare(base)
        with asyncio.Runner() as runner:
            outcome = _refused(place, deed, kind, base, runner)
        violations = judge(deed, base, outcome, place.errno, temps=place.temps)
        trials.add(*(f"{deed.name}: {violation}" for violation in violations))
        for path in base.iterdir():
            path.unlink()
        base.rmdir()
    return trials


def _refused(place: Place, deed: Deed, kind: type[Directory], base: Path, runner: asyncio.Runner) -> Outcome:
    # Threads and pipes of the event loop are made before descriptors run out.
    runner.run(asyncio.to_thread(int))
    backend = backend_of(kind, base)
    with place.refusing(base):
        return perform(deed, backend, runner)


def main(name: str, kind: str, folder: Path) -> None:
    """Print the trials as JSON."""
    warm_up()
    place, source = PLACES[name], "none"
    if place.system != "tmpfs":
        source = str(folder / "image")
        with open(source, "wb") as image:
            image.truncate(4 << 20)
        run(f"mkfs.{place.system}", "-q", "-F", source)
    run("mount", "-t", place.system, "-o", place.options, source, str(MOUNTPOINT))
    print(json.dumps(asdict(refuse_each_deed(place, getattr(broken, kind), MOUNTPOINT))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
