"""Directories that other programs fill: a million names, files that are none, files that change under the reader."""

from __future__ import annotations

import multiprocessing
import os
import random
import shlex
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine
from persistkit.errors import StorageError
from persistkit.frames import entries_frame, findings_frame
from persistkit.keys import filename_for, owner_filename_for

from . import sandbox
from .fork_server import ForkServer
from .report import Report, Trials
from .requirements import require, require_kernel

OTHER_FILES = 1_000_000
GIBI = 1024**3
OWNED = "beside?>"


def value_path(base: Path, key: str) -> Path:
    """Return where the value of a key lies."""
    return base / filename_for(key)


def owner_path(base: Path, key: str) -> Path:
    """Return where the owner file of a key lies."""
    return base / owner_filename_for(filename_for(key))


def outside(base: Path) -> Path:
    """Return the file beside a directory that nothing may read or change through it."""
    path = base.parent / f"{base.name}-outside"
    if not path.exists():
        path.write_bytes(b"outside")
    return path


def fifo(path: Path) -> None:
    """Make a FIFO that nobody writes."""
    os.mkfifo(path)


def listening(path: Path) -> None:
    """Make a socket."""
    os.mknod(path, stat.S_IFSOCK | 0o600)


def device(path: Path) -> None:
    """Make the device that never ends, where that is allowed."""
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    else:
        path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path.name)


def outward(path: Path) -> None:
    """Make a link out of the directory, to a file of the test's own."""
    path.symlink_to(outside(path.parent))


def dangling(path: Path) -> None:
    """Make a link to nothing."""
    path.symlink_to("nothing")


def directory(path: Path) -> None:
    """Make a directory with something in it."""
    path.mkdir()
    (path / "inside").write_bytes(b"inside")


ODD: list[Callable[[Path], None]] = [fifo, listening, device, loop, outward, dangling, directory]


def odd_directory(base: Path) -> list[str]:
    """Fill a directory with everything that is no value; return the keys it lies under."""
    for make in ODD:
        make(value_path(base, f"value/{make.__name__}"))
        make(owner_path(base, f"owned/{make.__name__}?>"))
        value_path(base, f"owned/{make.__name__}?>").write_bytes(b"value")
        make(base / f"other {make.__name__}")
        make(base / f".persistkit-{os.urandom(16).hex()}.tmp")
    for name in (
        b"caf\xe9.txt",
        b"\xff-0123456789abcdef.bin",
        b"\xff-0123456789abcdef.key",
        b"line\nend.bin",
        b"-.bin",
    ):
        (base / os.fsdecode(name)).write_bytes(b"odd")
    return [f"{where}/{make.__name__}{end}" for make in ODD for where, end in (("value", ""), ("owned", "?>"))]


def test_what_is_no_file_is_never_followed_and_stops_nothing(tmp_path: Path, report: Report) -> None:
    """FIFOs, sockets, devices, links and names that are no UTF-8: an error or an answer, at once; the rest works."""
    base = tmp_path / "odd"
    base.mkdir()
    keys = odd_directory(base)
    whole = sorted(os.listdir(base))
    kept, control = Trials(), Trials()
    with ForkServer(sandbox.__name__) as server:
        for key in (key for key in keys if key.startswith("value/")):
            control.add(*sandbox.broken(server, "without_a_look", key, base, patience_seconds=2))
        for key in keys:
            kept.add(*sandbox.broken(server, "in_odd_files", key, base))
    assert outside(base).read_bytes() == b"outside"
    assert len(os.listdir(base)) <= len(whole) + len(keys)
    report.record("what is no regular file stops nothing and is never followed", kept, control)


def test_an_odd_directory_is_listed_framed_checked_and_browsed(tmp_path: Path, report: Report) -> None:
    """Around odd files, hard links, 4 GiB of nothing and impossible times, everything works, in bounded memory."""
    base = tmp_path / "odd"
    base.mkdir()
    odd_directory(base)
    for path in [path for path in base.glob("*.bin") if path.name.startswith("owned_")]:
        path.unlink()
    os.link(outside(base), value_path(base, "hard link"))
    with value_path(base, "sparse").open("wb") as file:
        file.truncate(4 * GIBI)
    for key, seconds in (("future", 2**40), ("past", -(2**40))):
        value_path(base, key).write_bytes(b"value")
        os.utime(value_path(base, key), (seconds, seconds))
    kept, control = Trials(), Trials()
    with ForkServer(sandbox.__name__) as server:
        kept.add(*sandbox.broken(server, "in_directory", "odd", base))
        control.add(*sandbox.broken(server, "without_a_look", "sparse", base))
    FileEngine(base, fsync=False).save("hard link", b"new")
    assert outside(base).read_bytes() == b"outside"
    reader = FileEngine(base).open_reader("sparse")
    assert reader is not None
    with reader:
        assert reader.seek(0, os.SEEK_END) == 4 * GIBI
        assert reader.seek(-10, os.SEEK_END)
        assert reader.read() == bytes(10)
    report.record("an odd directory is listed, framed, checked and browsed within 500 MB", kept, control)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_million_other_files_cost_bounded_memory(tmp_path: Path, report: Report) -> None:
    """Among a million other files the one value is found; list, frame, check and browser stay in bounded memory."""
    require("unshare", "mount")
    namespace = ["unshare", "-m", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1g,nr_inodes=2m tmpfs {shlex.quote(str(tmp_path))}"
    require_kernel("tmpfs", *namespace, mount)
    kept, control = Trials(), Trials()
    with ForkServer(sandbox.__name__, command=(*namespace, f'{mount} && exec "$0" "$@"')) as server:
        opened = partial(sandbox.broken, server, base=tmp_path, most_seconds=200, patience_seconds=600)
        assert opened("full_of_other_files", str(OTHER_FILES)) == []
        kept.add(*opened("among_other_files", "good"))
        control.add(*opened("other_files_held", "all"))
    report.record("a million other files cost bounded memory: 500 MB, each one reported by check", kept, control)


def churn(base: str, seconds: float) -> None:
    """Do to a directory what no persistkit does: write in place, truncate, rename, remove, put odd files there."""
    dice, deadline = random.Random(4), time.monotonic() + seconds
    names = [*(filename_for(f"k{n}") for n in range(20)), filename_for(OWNED), owner_filename_for(filename_for(OWNED))]
    while time.monotonic() < deadline:
        path = Path(base) / dice.choice(names)
        try:
            match dice.randrange(6):
                case 0 | 1:
                    # Never through a link, and never waiting for a FIFO's reader.
                    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
                    descriptor = os.open(path, flags, 0o600)
                    os.write(descriptor, os.urandom(dice.randrange(200_000)))
                    os.ftruncate(descriptor, dice.randrange(100))
                    os.close(descriptor)
                case 2:
                    path.unlink()
                case 3:
                    os.rename(path, Path(base) / dice.choice(names))
                case 4:
                    os.mkfifo(path)
                case 5:
                    path.symlink_to(outside(Path(base)))
        except OSError:
            continue


def test_files_that_change_under_the_reader_are_an_answer_or_an_error(tmp_path: Path, report: Report) -> None:
    """While another process writes, truncates, renames and removes, every call answers or raises a StorageError."""
    base = tmp_path / "changing"
    base.mkdir()
    engine = FileEngine(base, fsync=False)
    keys = [*(f"k{n}" for n in range(20)), OWNED]
    kept, control = Trials(), Trials()
    works: list[Callable[[], object]] = [
        lambda: [engine.load(key) for key in keys if engine.exists(key)],
        lambda: engine.list_keys(),
        lambda: entries_frame(engine.entries()),
        lambda: findings_frame(engine.check()),
        lambda: engine.key_count(),
    ]
    other = multiprocessing.get_context("spawn").Process(target=churn, args=(str(base), 4.0), daemon=True)
    other.start()
    deadline = time.monotonic() + 60
    while other.is_alive() and time.monotonic() < deadline:
        seen = [path for path in base.iterdir() if path.is_file()]
        for work in works:
            kept.add(*refused(work, StorageError))
        control.add(*refused(partial(sizes_of, seen), StorageError))
    other.join(10)
    assert other.exitcode == 0
    assert outside(base).read_bytes() == b"outside"
    report.record("files that change under the reader are an answer or a StorageError", kept, control)


def sizes_of(paths: list[Path]) -> list[int]:
    """Return the sizes of files, as everybody does who has just seen them."""
    return [path.stat().st_size for path in paths]


def refused(work: Callable[[], object], allowed: type[Exception]) -> list[str]:
    """Return what else than the allowed error came out of ``work``."""
    try:
        work()
    except allowed:
        return []
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []
