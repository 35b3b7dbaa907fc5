"""Every key its own name: claims, their crash points, and what check finds and mends."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from persistkit import BlockingBackend, FilePersistenceBackend
from persistkit.errors import BatchError, KeyCollisionError, PersistenceError, StorageError
from persistkit.filenames import alternatives, claim_name_for, filename_for, needs_claim

HALVES = [("a?>", "a>_"), ("<|im_start|>", ">:im_start|>"), ("?:_", ">\\>"), ("?\\>", ">|_"), ("?<>", ">\\_")]
TEN = '/\\:*?"<>|_'  # the characters that a filename does not tell apart
LONG = "k" * 400
LONG_TWINS = (LONG + "az", LONG + "bY")
HOUR_AGO = time.time() - 3700


@pytest.fixture
def backend(tmp_path: Path) -> FilePersistenceBackend:
    """An empty directory."""
    return FilePersistenceBackend(tmp_path, fsync=False)


def companion_of(backend: FilePersistenceBackend, key: str) -> Path:
    """Return the path of the claim of ``key``."""
    return backend.base_dir / claim_name_for(filename_for(key))


@pytest.mark.parametrize(("first", "second"), [*HALVES, LONG_TWINS])
async def test_the_second_half_of_a_collision_is_refused(
    backend: FilePersistenceBackend, first: str, second: str
) -> None:
    """Whoever comes first holds the file; the other is refused, by an error that names both keys and the file."""
    assert filename_for(first) == filename_for(second)
    await backend.save(first, b"first")
    before = {path.name: path.read_bytes() for path in backend.base_dir.iterdir()}
    with pytest.raises(KeyCollisionError) as caught:
        await backend.save(second, b"second")
    assert all(text in str(caught.value) for text in (repr(first), repr(second), filename_for(first)))
    with pytest.raises(BatchError) as batch:
        await backend.batch_save({second: b"second"})
    assert isinstance(batch.value.failures[second], KeyCollisionError)
    assert {path.name: path.read_bytes() for path in backend.base_dir.iterdir()} == before
    assert await backend.load(second) is None
    assert not await backend.exists(second)
    await backend.delete(second)
    assert await backend.load(first) == b"first"
    assert await backend.list_keys() == [first]


async def test_deleting_keeps_the_claim(backend: FilePersistenceBackend) -> None:
    """After a delete the file is still the first key's, so that no other key slips in beside a competing save."""
    await backend.save("a?>", b"1")
    await backend.delete("a?>")
    assert companion_of(backend, "a?>").read_text() == "a?>"
    assert await backend.list_keys() == []
    with pytest.raises(KeyCollisionError):
        await backend.save("a>_", b"2")
    await backend.save("a?>", b"3")
    assert await backend.load("a?>") == b"3"


@pytest.mark.parametrize("key", ["k" * 235, "k" * 1024, "é" * 512, "日" * 341, "/" * 300, "🦀/" * 200])
async def test_long_keys_are_stored_under_a_cut_name(backend: FilePersistenceBackend, key: str) -> None:
    """A key up to 1,024 bytes is stored, listed and deleted; its name is cut on a character's border."""
    await backend.save(key, b"long")
    assert await backend.load(key) == b"long"
    assert await backend.list_keys() == [key]
    assert all(len(os.fsencode(path.name)) <= 255 for path in backend.base_dir.iterdir())
    assert companion_of(backend, key).read_text(encoding="utf-8") == key
    await backend.delete(key)
    assert await backend.load(key) is None


async def test_a_directory_of_the_reference_with_a_collision_gives_no_wrong_answer(
    backend: FilePersistenceBackend,
) -> None:
    """Without claim the smallest solution is listed, marked; every solution loads it; saving one claims it."""
    backend.path_for("a?>").write_bytes(b"of one of them")
    (entry,) = [entry async for entry in backend.entries()]
    assert (entry.key, entry.ambiguous) == ("a>_", True)
    assert await backend.batch_load(["a?>", "a>_"]) == [b"of one of them"] * 2
    assert [(finding.problem, finding.key) for finding in await backend.check()] == [("ambiguous", "a>_")]
    await backend.save("a?>", b"mine")
    (entry,) = [entry async for entry in backend.entries()]
    assert (entry.key, entry.ambiguous) == ("a?>", False)
    assert await backend.load("a>_") is None


async def test_unsolved_names_are_listed_and_readable(backend: FilePersistenceBackend) -> None:
    """A name of our shape that nothing fits is an entry without key; its value loads by its filename."""
    name = "_a_b_c_d_e_f_g_h_i_j-0123456789abcdef.bin"
    (backend.base_dir / name).write_bytes(b"whose?")
    (entry,) = [entry async for entry in backend.entries()]
    assert (entry.key, entry.filename, entry.size) == (None, name, 6)
    assert await backend.list_keys() == []
    assert await backend.key_count() == 1
    assert [entry async for entry in backend.entries("_")] == []
    assert await backend.load_filename(name) == b"whose?"
    assert [finding.problem for finding in await backend.check()] == ["unsolved"]


async def test_hard_keys_are_claimed_and_listed(backend: FilePersistenceBackend) -> None:
    """A key with many kinds of special characters is listed through its claim."""
    key = 'https://example.com:80/a_b?c="d"|e*f/g_h?i<j>k_l'
    assert needs_claim(key)
    assert alternatives(key) == ()
    await backend.save(key, b"page")
    assert await backend.list_keys() == [key]


async def test_ordinary_keys_pay_nothing_for_claims(
    backend: FilePersistenceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save of an ordinary key is open, write, close, replace; a load is open, fstat, read, close."""
    calls: list[str] = []
    for name in ("open", "write", "close", "replace", "fstat", "read", "stat", "lstat", "link", "utime", "unlink"):
        original = getattr(os, name)

        def counted(*args: object, _name: str = name, _original: object = original, **options: object) -> object:
            calls.append(_name)
            return _original(*args, **options)  # type: ignore[operator]

        monkeypatch.setattr(os, name, counted)
    backend.blocking_core.save("session:1/step:2", b"value")
    assert calls == ["open", "write", "close", "replace"]
    calls.clear()
    assert backend.blocking_core.load("session:1/step:2") == b"value"
    assert calls == ["open", "fstat", "read", "close"]


CRASH = """
import os, signal, sys
from persistkit import BlockingBackend, FilePersistenceBackend
base, key, stop_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
backend = BlockingBackend(FilePersistenceBackend(base))
calls = 0
for name in ("open", "write", "fsync", "close", "link", "replace", "unlink", "utime"):
    def counted(*args, _original=getattr(os, name), **options):
        global calls
        calls += 1
        if calls == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return _original(*args, **options)
    setattr(os, name, counted)
backend.save(key, b"new")
print(calls)
"""


def crash(base: Path, key: str, stop_at: int) -> int | None:
    """Save ``key`` in a process killed before its call number ``stop_at``; the number of calls when it lived."""
    run = subprocess.run([sys.executable, "-c", CRASH, base, key, str(stop_at)], capture_output=True, text=True)
    if run.returncode == -signal.SIGKILL:
        return None
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.parametrize("old", [None, b"old"])
def test_every_crash_point_leaves_what_the_next_call_handles(tmp_path: Path, old: bytes | None) -> None:
    """Killed before each system call of a claimed save: old or new, whole; the same key saves again; check cleans."""
    stop_at, killed = 1, 0
    while True:
        base = tmp_path / str(stop_at)
        files = FilePersistenceBackend(base, create=True)
        backend = BlockingBackend(files)
        if old is not None:
            backend.save("a?>", old)
        if crash(base, "a?>", stop_at) is not None:
            break
        killed += 1
        assert backend.load("a?>") in (old, b"new")
        assert backend.load("a>_") in (None, backend.load("a?>"))
        assert set(backend.list_keys()) <= {"a?>"}
        for path in base.iterdir():
            os.utime(path, (HOUR_AGO, HOUR_AGO))
        findings = asyncio.run(files.check(repair=True))
        assert {finding.problem for finding in findings} <= {"temp left behind", "claim without value"}
        assert all(finding.repaired for finding in findings)
        backend.save("a?>", b"after")
        assert backend.load("a?>") == b"after"
        assert sorted(os.listdir(base)) == sorted([filename_for("a?>"), claim_name_for(filename_for("a?>"))])
        stop_at += 1
    assert killed >= (12 if old is None else 10)
    assert backend.load("a?>") == b"new"


@pytest.mark.parametrize("content", [b"", b"a", b"a?\xff"])
async def test_a_torn_claim_is_refused_for_an_hour_and_replaced_afterwards(
    backend: FilePersistenceBackend, content: bytes
) -> None:
    """A claim cut by a crash may still be somebody's: nobody takes it before an hour has passed."""
    companion = companion_of(backend, "a?>")
    companion.write_bytes(content)
    with pytest.raises(KeyCollisionError, match="unfinished"):
        await backend.save("a?>", b"1")
    assert await backend.list_keys() == []
    os.utime(companion, (HOUR_AGO, HOUR_AGO))
    await backend.save("a?>", b"2")
    assert companion.read_text() == "a?>"
    assert await backend.load("a?>") == b"2"


async def test_check_names_every_problem_and_repairs_only_the_dead(backend: FilePersistenceBackend) -> None:
    """Each problem is found once; repair removes old temp files and old claims without value, and nothing else."""
    base = backend.base_dir
    await backend.batch_save({"a?>": b"1", "good": b"2", LONG: b"3", ":|": b"4"})
    await backend.delete("a?>")
    (base / ".persistkit-0123456789abcdef0123456789abcdef.tmp").write_bytes(b"temp")
    (base / "key-0000000000000001.tmp-0123456789abcdef0123456789abcdef").write_bytes(b"temp")
    (base / ".persistkit-1123456789abcdef0123456789abcdef.tmp").write_bytes(b"young")
    companion_of(backend, "<|").write_bytes(b"<")
    companion_of(backend, "?\\>").write_bytes(b"another")
    (base / "notes.txt").write_text("mine")
    (base / "_a_b_c_d_e_f_g_h_i_j-0123456789abcdef.bin").write_bytes(b"whose?")
    backend.path_for("?:_").write_bytes(b"ambiguous")
    backend.path_for("directory").mkdir()
    for path in base.iterdir():
        if not path.name.startswith(".persistkit-1"):
            os.utime(path, (HOUR_AGO, HOUR_AGO))
    values = {path.name: path.read_bytes() for path in base.glob("*.bin") if path.is_file()}
    found = {(finding.filename, finding.problem): finding for finding in await backend.check()}
    assert sorted(problem for _, problem in found) == [
        "ambiguous",
        "claim that does not hash to its filename",
        "claim without value",
        "foreign file",
        "not a regular file",
        "temp left behind",
        "temp left behind",
        "temp left behind",
        "torn claim",
        "unsolved",
    ]
    assert not any(finding.repaired for finding in found.values())
    repaired = {finding.filename for finding in await backend.check(repair=True) if finding.repaired}
    assert repaired == {
        ".persistkit-0123456789abcdef0123456789abcdef.tmp",
        "key-0000000000000001.tmp-0123456789abcdef0123456789abcdef",
        companion_of(backend, "a?>").name,
        companion_of(backend, "<|").name,
    }
    assert {path.name: path.read_bytes() for path in base.glob("*.bin") if path.is_file()} == values
    assert all(not (base / name).exists() for name in repaired)
    assert await backend.list_keys() == sorted([":|", LONG, ">\\>", "good"])


async def test_repair_leaves_what_is_only_named_like_a_temp_file(backend: FilePersistenceBackend) -> None:
    """An old directory, link or pipe with a temp file's name is found and stays; the repair goes on."""
    names = [f".persistkit-{number:032x}.tmp" for number in range(4)]
    (backend.base_dir / names[0]).mkdir()
    (backend.base_dir / names[0] / "inside").write_bytes(b"kept")
    (backend.base_dir / names[1]).symlink_to("/etc/hostname")
    os.mkfifo(backend.base_dir / names[2])
    (backend.base_dir / names[3]).write_bytes(b"temp")
    for name in names:
        os.utime(backend.base_dir / name, (HOUR_AGO, HOUR_AGO), follow_symlinks=False)
    findings = await backend.check(repair=True)
    assert [finding.problem for finding in findings] == ["not a regular file"] * 3 + ["temp left behind"]
    assert [finding.repaired for finding in findings] == [False, False, False, True]
    assert sorted(os.listdir(backend.base_dir)) == names[:3]
    assert (backend.base_dir / names[0] / "inside").read_bytes() == b"kept"


async def test_repair_leaves_a_claim_that_is_held(backend: FilePersistenceBackend) -> None:
    """While a save holds an old claim, repair does not take it away."""
    await backend.save("a?>", b"1")
    await backend.delete("a?>")
    directory = backend.blocking_core
    with directory.claims.hold("a?>", filename_for("a?>")):
        os.utime(companion_of(backend, "a?>"), (HOUR_AGO, HOUR_AGO))
        assert [finding.repaired for finding in await backend.check(repair=True)] == [False]
    assert [finding.repaired for finding in await backend.check(repair=True)] == [True]


class CollidingKeys(RuleBasedStateMachine):
    """The file backend against a dictionary, with keys drawn to collide, reopened between the steps."""

    keys = Bundle("keys")

    @initialize()
    def open(self) -> None:
        """Begin with an empty directory."""
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.reopen()
        self.model: dict[str, bytes] = {}
        self.holders: dict[str, str] = {}

    @rule(
        target=keys,
        key=st.text(TEN, max_size=8)
        | st.text(TEN + "ab", max_size=20)
        | st.sampled_from([*(key for pair in [*HALVES, LONG_TWINS] for key in pair), "", "plain", "k" * 240]),
    )
    def meet(self, key: str) -> MultipleResults[str]:
        """Meet a key, and some of those that share its filename."""
        return multiple(key, *alternatives(key)[:4])

    @rule()
    def reopen(self) -> None:
        """Open the directory anew."""
        self.backend = BlockingBackend(FilePersistenceBackend(self.folder.name, fsync=False))

    @rule(key=keys, value=st.binary(max_size=8), stream=st.booleans())
    def save(self, key: str, value: bytes, stream: bool) -> None:
        """Save a key; the other half of its collision is refused."""
        holder = self.holders.get(filename_for(key), key)
        try:
            if stream:
                with self.backend.open_writer(key) as writer:
                    writer.write(value)
            else:
                self.backend.save(key, value)
        except KeyCollisionError:
            assert holder != key
        else:
            assert holder == key
            self.model[key] = value
            self.holders[filename_for(key)] = key

    @rule(key=keys)
    def delete(self, key: str) -> None:
        """Delete a key."""
        self.backend.delete(key)
        self.model.pop(key, None)

    @rule(key=keys)
    def load(self, key: str) -> None:
        """A key gives its own value or none."""
        assert self.backend.load(key) == self.model.get(key)
        assert self.backend.exists(key) == (key in self.model)

    @invariant()
    def listing_is_true(self) -> None:
        """The listing holds the model's keys."""
        if hasattr(self, "model"):
            assert self.backend.list_keys() == sorted(self.model)

    def teardown(self) -> None:
        """Remove the directory."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestCollidingKeys = CollidingKeys.TestCase
TestCollidingKeys.settings = settings(stateful_step_count=30)


def contend(base: str, key: str, rounds: int, results: multiprocessing.Queue[tuple[int, list[str]]]) -> None:
    """Save and delete one half of a collision; report acknowledged saves and every wrong answer."""
    backend = BlockingBackend(FilePersistenceBackend(base, fsync=False))
    acknowledged, wrong = 0, []
    for number in range(rounds):
        value = f"{key} {number}".encode()
        try:
            backend.save(key, value)
        except KeyCollisionError:
            loaded = backend.load(key)
            if loaded is not None:
                wrong.append(f"{key!r} was refused and loads {loaded!r}")
            continue
        acknowledged += 1
        if backend.load(key) != value:
            wrong.append(f"{key!r} was saved and is {backend.load(key)!r}")
        if number % 3 == 0:
            backend.delete(key)
            if backend.exists(key):
                wrong.append(f"{key!r} was deleted and exists")
    results.put((acknowledged, wrong))


@pytest.fixture
def spawn() -> multiprocessing.context.SpawnContext:
    """Processes that begin anew, as on every platform."""
    return multiprocessing.get_context("spawn")


def test_processes_contending_for_a_collision_lose_nothing(
    tmp_path: Path, spawn: multiprocessing.context.SpawnContext
) -> None:
    """Many processes save and delete both halves: one half wins for good, and keeps every acknowledged value."""
    results: multiprocessing.Queue[tuple[int, list[str]]] = spawn.Queue()
    processes = [spawn.Process(target=contend, args=(str(tmp_path), key, 150, results)) for key in ("a?>", "a>_")]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [wrong for _, wrong in answers if wrong] == []
    assert sorted(acknowledged for acknowledged, _ in answers) == [0, 150]


async def test_tasks_contending_for_a_name_have_one_winner(backend: FilePersistenceBackend) -> None:
    """Of many saves of both halves at once, exactly those of one half succeed."""
    keys = ["<|", ">:"] * 20
    outcomes = await asyncio.gather(*(backend.save(key, key.encode()) for key in keys), return_exceptions=True)
    winners = {key for key, outcome in zip(keys, outcomes, strict=True) if outcome is None}
    assert len(winners) == 1
    assert all(outcome is None or isinstance(outcome, PersistenceError) for outcome in outcomes)
    (winner,) = winners
    assert await backend.list_keys() == [winner]
    assert await backend.load(winner) == winner.encode()


async def test_a_listing_never_shows_a_key_nobody_saved(backend: FilePersistenceBackend) -> None:
    """While one half of many collisions is saved, a listing holds those keys and never their other halves."""
    done = False

    async def save() -> None:
        nonlocal done
        for number in range(300):
            await backend.save(f"{number}?>", b"value")
        done = True

    saving = asyncio.ensure_future(save())
    while not done:
        assert [key for key in await backend.list_keys() if not key.endswith("?>")] == []
    await saving
    assert len(await backend.list_keys()) == 300


@pytest.mark.parametrize("kind", ["directory", "link", "binary", "nul"])
async def test_a_bad_companion_hides_nothing(backend: FilePersistenceBackend, kind: str) -> None:
    """A companion that is no claim leaves the listing as it would be without it, and check names it."""
    await backend.batch_save({"good": b"1", "other": b"2"})
    companion = companion_of(backend, "good")
    if kind == "directory":
        companion.mkdir()
    elif kind == "link":
        companion.symlink_to("/etc/hostname")
    else:
        companion.write_bytes(b"\xff" if kind == "binary" else b"k" * 300 + b"\0")
    assert await backend.list_keys() == ["good", "other"]
    assert [finding.filename for finding in await backend.check()] == [companion.name]


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO, errno.EMFILE])
async def test_a_companion_that_cannot_be_read_gives_no_wrong_key(
    backend: FilePersistenceBackend, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """The key of a sealed claim is unknown, never guessed; a process out of descriptors hears just that."""
    await backend.batch_save({"a?>": b"1", "good": b"2"})
    companion, opened = companion_of(backend, "a?>"), os.open

    def refusing(path: str, *arguments: Any, **options: Any) -> int:
        if path == str(companion):
            raise OSError(reason, os.strerror(reason))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    if reason == errno.EMFILE:
        for listing in (backend.list_keys(), backend.check()):
            with pytest.raises(StorageError, match="Too many open files"):
                await listing
        return
    assert await backend.list_keys() == ["good"]
    assert {(entry.key, entry.ambiguous) async for entry in backend.entries()} == {("good", False), (None, False)}
    assert companion.name in {finding.filename for finding in await backend.check() if finding.problem == "unreadable"}


async def test_deleting_a_value_another_key_holds_changes_nothing(backend: FilePersistenceBackend) -> None:
    """Of two who delete the halves of an unclaimed name one removes the value, and neither fails."""
    for _ in range(30):
        backend.path_for("a?>").write_bytes(b"of the Rust runtime")
        await asyncio.gather(backend.delete("a?>"), backend.delete("a>_"))
        assert not backend.path_for("a?>").exists()
        companion_of(backend, "a?>").unlink()
