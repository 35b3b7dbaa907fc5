"""Every key under its own name: owner files, their crash points, and what is not readable."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from persistkit.engines.files import FileEngine
from persistkit.errors import BatchError, KeyCollisionError, StorageError
from persistkit.keys import filename_for, owner_filename_for

HALVES = [("a?>", "a>_"), ("<|im_start|>", ">:im_start|>"), ("?:_", ">\\>"), ("?\\>", ">|_"), ("?<>", ">\\_")]
# Nine characters each, whose hashes agree modulo 2 ** 64 only.
MODULAR = [
    (
        '|aaaaa>aaaaa\\aaa:aaa"aaaaaaaaaaaaa\\aaaaaaaa:aaaaaaaaaaaaaaaaaaaaa>aaaaaa"aaaaa',
        ':aaaaa_aaaaa*aaa|aaa/aaaaaaaaaaaaa*aaaaaaaa"aaaaaaaaaaaaaaaaaaaaa/aaaaaa_aaaaa',
    ),
    (
        ">aaaaaaaaaaaaa<aaaaaaa|aaaaaaaaaaaaa>aaaaaaaaaaa?aaaa:a>aaaa/aaaaaaaaaaaa<aa",
        "\\aaaaaaaaaaaaa:aaaaaaa*aaaaaaaaaaaaa:aaaaaaaaaaa>aaaa\\a*aaaa|aaaaaaaaaaaa\\aa",
    ),
]
LONG = "k" * 400
LONG_TWINS = (LONG + "az", LONG + "bY")
HOUR_AGO = time.time() - 3700


def owner_file(engine: FileEngine, key: str) -> Path:
    """Return the path of the owner file of ``key``."""
    return engine.base_dir / owner_filename_for(filename_for(key))


@pytest.mark.parametrize(("first", "second"), [*HALVES, *MODULAR, LONG_TWINS])
def test_the_second_half_of_a_collision_is_refused(engine: FileEngine, first: str, second: str) -> None:
    """Whoever comes first owns the file; the other is refused, by an error that names both keys and the file."""
    assert filename_for(first) == filename_for(second)
    engine.save(first, b"first")
    before = {path.name: path.read_bytes() for path in engine.base_dir.iterdir()}
    for write in (engine.save, engine.add):
        with pytest.raises(KeyCollisionError) as caught:
            write(second, b"second")
        assert all(text in str(caught.value) for text in (repr(first), repr(second), filename_for(first)))
    with pytest.raises(BatchError) as batch:
        engine.batch_save({second: b"second"})
    assert isinstance(batch.value.failures[second], KeyCollisionError)
    assert not engine.replace(second, b"second", b"first")
    assert {path.name: path.read_bytes() for path in engine.base_dir.glob("a*")} == {
        name: content for name, content in before.items() if name.startswith("a")
    }
    for read in (
        engine.load,
        engine.load_cached,
        engine.open_reader,
        engine.load_buffer,
        lambda key: engine.read_range(key, 0, 1),
    ):
        assert read(second) is None
    assert not engine.exists(second)
    engine.delete(second)
    assert engine.load(first) == b"first"
    assert engine.list_keys() == [first]


def test_a_collision_that_the_rust_runtime_wrote_gives_no_wrong_answer(engine: FileEngine) -> None:
    """Without owner the smallest candidate is listed, marked; every candidate loads it; saving one owns it."""
    engine.path_for("a?>").write_bytes(b"of one of them")
    (entry,) = engine.entries()
    assert (entry.key, entry.ambiguous) == ("a>_", True)
    assert engine.batch_load(["a?>", "a>_"]) == [b"of one of them"] * 2
    assert [(finding.problem, finding.key) for finding in engine.check()] == [("ambiguous", "a>_")]
    engine.save("a?>", b"mine")
    (entry,) = engine.entries()
    assert (entry.key, entry.ambiguous) == ("a?>", False)
    assert engine.load("a>_") is None


def test_ordinary_keys_pay_nothing_for_owner_files_and_locks(
    engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save is open, write, close, a look for locks, replace; more than five places in doubt cost one more look."""
    calls: list[str] = []
    names = ("open", "write", "close", "replace", "fstat", "read", "stat", "lstat", "link", "utime", "unlink", "access")
    for name in names:
        original = getattr(os, name)

        def counted(*args: object, _name: str = name, _original: object = original, **options: object) -> object:
            calls.append(_name)
            return _original(*args, **options)  # type: ignore[operator]

        monkeypatch.setattr(os, name, counted)
    engine.save("session:1/step:2", b"value")
    assert calls == ["open", "write", "close", "access", "replace"]
    calls.clear()
    assert engine.load("session:1/step:2") == b"value"
    assert calls == ["open", "fstat", "read", "close"]
    calls.clear()
    engine.save("agent:a_b/run:1/step:2", b"value")
    assert calls == ["open", "write", "close", "lstat", "access", "replace"]
    calls.clear()
    assert engine.load("agent:a_b/run:1/step:2") == b"value"
    assert calls == ["open", "fstat", "read", "close", "open"]


def killed_before(stop_at: int, write: Callable[[], object]) -> bool:
    """Write in a forked process that is killed before its system call number ``stop_at``; whether it came so far."""
    child = os.fork()
    if child == 0:
        calls = count(1)

        def stop_before(original: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **options: Any) -> Any:
                if next(calls) == stop_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **options)

            return counted

        for name in ("open", "write", "fsync", "close", "link", "replace", "unlink", "utime"):
            setattr(os, name, stop_before(getattr(os, name)))
        try:
            write()
        finally:
            os._exit(next(calls) > stop_at)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads: the child only writes
@pytest.mark.parametrize(("old", "operation"), [(None, "save"), (b"old", "save"), (None, "add")])
def test_every_crash_point_leaves_what_the_next_call_handles(tmp_path: Path, old: bytes | None, operation: str) -> None:
    """Killed before each system call of such a save: old or new, whole; the same key saves again; check cleans up."""
    for killed in count():
        base = tmp_path / str(killed)
        if old is not None:
            FileEngine(base, create=True, fsync=False).save("a?>", old)
        engine = FileEngine(base, create=True)
        if not killed_before(killed + 1, partial(getattr(engine, operation), "a?>", b"new")):
            break
        assert engine.load("a?>") in (old, b"new")
        assert engine.load("a>_") in (None, engine.load("a?>"))
        assert set(engine.list_keys()) <= {"a?>"}
        for path in base.iterdir():
            os.utime(path, (HOUR_AGO, HOUR_AGO))
        findings = engine.check(repair=True)
        assert {finding.problem for finding in findings} <= {"temp left behind", "owner file without value"}
        assert all(finding.repaired for finding in findings)
        engine.save("a?>", b"after")
        assert engine.load("a?>") == b"after"
        names = [filename_for("a?>"), owner_filename_for(filename_for("a?>"))]
        assert sorted(set(os.listdir(base)) - {".persistkit-locks"}) == sorted(names)
    assert killed >= (12 if old is None else 10)
    assert engine.load("a?>") == b"new"


@pytest.mark.parametrize("content", [b"", b"a", b"a?\xff"])
def test_a_torn_owner_file_is_refused_for_an_hour_and_replaced_afterwards(engine: FileEngine, content: bytes) -> None:
    """One cut by a crash may still be somebody's: nobody takes it before an hour has passed."""
    path = owner_file(engine, "a?>")
    path.write_bytes(content)
    with pytest.raises(KeyCollisionError, match="unfinished"):
        engine.save("a?>", b"1")
    assert engine.list_keys() == []
    os.utime(path, (HOUR_AGO, HOUR_AGO))
    engine.save("a?>", b"2")
    assert path.read_text() == "a?>"
    assert engine.load("a?>") == b"2"


def test_where_hard_links_do_not_exist_the_owner_file_is_created(
    engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owner files, ``add`` and ``replace`` work on a file system whose files have one name only."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert engine.add("a?>", b"1")
    assert not engine.add("a?>", b"2")
    assert engine.replace("a?>", b"3", b"1")
    with pytest.raises(KeyCollisionError):
        engine.add("a>_", b"4")
    assert owner_file(engine, "a?>").read_text() == "a?>"
    assert engine.load("a?>") == b"3"
    assert len(os.listdir(engine.base_dir)) == 3


def test_a_file_that_is_never_there_after_it_was_made_is_an_error(
    engine: FileEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system says it has linked a file and has not, a write fails and names the file, and leaves nothing."""
    engine.save("there", b"1")
    monkeypatch.setattr(os, "link", lambda *_: None)
    for write, name in (
        (lambda: engine.save("a?>", b"2"), ".key"),
        (lambda: engine.add("b", b"2"), ".persistkit-locks"),
    ):
        with pytest.raises(StorageError, match=f"{name} was made .* gone each time"):
            write()
    assert os.listdir(engine.base_dir) == [filename_for("there")]


def test_a_save_keeps_its_owner_file_while_a_repair_runs(engine: FileEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair between the moment a save finds its old owner file and the moment it stores the value takes nothing."""
    engine.save("a?>", b"1")
    engine.delete("a?>")
    replace = os.replace
    repaired: list[bool] = []

    def repairing(*paths: str) -> None:
        os.utime(owner_file(engine, "a?>"), (HOUR_AGO, HOUR_AGO))
        repaired.extend(finding.repaired for finding in engine.check(repair=True) if finding.filename.endswith(".key"))
        replace(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", repairing)
        engine.save("a?>", b"2")
    assert repaired == [False]
    assert owner_file(engine, "a?>").read_text() == "a?>"
    engine.delete("a?>")
    os.utime(owner_file(engine, "a?>"), (HOUR_AGO, HOUR_AGO))
    assert [finding.repaired for finding in engine.check(repair=True)] == [True]  # the control: nobody saves


@pytest.mark.parametrize("kind", ["directory", "link", "binary", "nul"])
def test_a_bad_owner_file_hides_nothing(engine: FileEngine, kind: str) -> None:
    """One that names no owner leaves the listing as it would be without it, and check names it."""
    engine.batch_save({"good": b"1", "other": b"2"})
    path = owner_file(engine, "good")
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    else:
        path.write_bytes(b"\xff" if kind == "binary" else b"k" * 300 + b"\0")
    assert engine.list_keys() == ["good", "other"]
    assert [finding.filename for finding in engine.check()] == [path.name]


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_an_owner_file_that_cannot_be_read_gives_no_wrong_key(
    engine: FileEngine, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """The key is then unknown, never guessed; a process out of descriptors hears just that."""
    engine.batch_save({"a?>": b"1", "good": b"2"})
    path, opened = owner_file(engine, "a?>"), os.open

    def refusing(path_: str, *arguments: Any, **options: Any) -> int:
        if path_ == str(path):
            raise OSError(reason, os.strerror(reason))
        return opened(path_, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    if reason == errno.EMFILE:
        for listing in (engine.list_keys, engine.check):
            with pytest.raises(StorageError, match="Too many open files"):
                listing()
        return
    assert engine.list_keys() == ["good"]
    assert {(entry.key, entry.ambiguous) for entry in engine.entries()} == {("good", False), (None, False)}
    assert path.name in {finding.filename for finding in engine.check() if finding.problem == "unreadable"}
