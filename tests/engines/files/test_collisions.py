"""Who contends for a name: a model of colliding keys, processes and threads on both halves of a collision."""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

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

from persistkit.engines.files import FileEngine
from persistkit.errors import KeyCollisionError
from persistkit.keys import alternatives, filename_for, owner_filename_for

TEN = '/\\:*?"<>|_'  # the characters that a filename does not tell apart
LONG = "k" * 400
COLLIDING = ["a?>", "a>_", "<|im_start|>", ">:im_start|>", "?:_", ">\\>", "?<>", ">\\_", LONG + "az", LONG + "bY"]


class CollidingKeys(RuleBasedStateMachine):
    """The engine against a dictionary, with keys drawn to collide, reopened between the steps."""

    keys = Bundle("keys")

    @initialize()
    def open(self) -> None:
        """Begin with an empty directory."""
        self.folder = tempfile.TemporaryDirectory()
        self.reopen()
        self.model: dict[str, bytes] = {}
        self.owners: dict[str, str] = {}

    @rule(
        target=keys,
        key=st.text(TEN, max_size=8)
        | st.text(TEN + "ab", max_size=20)
        | st.sampled_from([*COLLIDING, "", "plain", "k" * 240]),
    )
    def meet(self, key: str) -> MultipleResults[str]:
        """Meet a key, and some of those that share its filename."""
        return multiple(key, *alternatives(key)[:4])

    @rule()
    def reopen(self) -> None:
        """Open the directory anew."""
        self.engine = FileEngine(self.folder.name, fsync=False)

    @rule(key=keys, value=st.binary(max_size=8), how=st.sampled_from(["save", "stream", "add", "replace"]))
    def save(self, key: str, value: bytes, how: str) -> None:
        """Save a key; the other half of its collision is refused."""
        owner = self.owners.get(filename_for(key), key)
        stored = True
        try:
            if how == "stream":
                with self.engine.open_writer(key) as writer:
                    writer.write(value)
            elif how == "add":
                stored = self.engine.add(key, value)
                assert stored == (key not in self.model)
            elif how == "replace":
                stored = self.engine.replace(key, value, self.model.get(key, b"missing"))
                assert stored == (key in self.model)
            else:
                self.engine.save(key, value)
        except KeyCollisionError:
            assert owner != key
        else:
            assert owner == key or not stored
            if stored:
                self.model[key] = value
                self.owners[filename_for(key)] = key

    @rule(key=keys)
    def delete(self, key: str) -> None:
        """Delete a key."""
        self.engine.delete(key)
        self.model.pop(key, None)

    @rule(key=keys)
    def load(self, key: str) -> None:
        """A key gives its own value or none."""
        assert self.engine.load(key) == self.model.get(key)
        assert self.engine.exists(key) == (key in self.model)
        assert self.engine.load_cached(key) in (None, self.model.get(key))

    @invariant()
    def listing_is_true(self) -> None:
        """The listing holds the model's keys."""
        if hasattr(self, "model"):
            assert self.engine.list_keys() == sorted(self.model)

    def teardown(self) -> None:
        """Remove the directory."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestCollidingKeys = CollidingKeys.TestCase
TestCollidingKeys.settings = settings(stateful_step_count=30)


def contend(base: str, key: str, rounds: int, results: multiprocessing.Queue[tuple[int, list[str]]]) -> None:
    """Save and delete one half of a collision; report acknowledged saves and every wrong answer."""
    engine = FileEngine(base, fsync=False)
    acknowledged, wrong = 0, []
    for number in range(rounds):
        value = f"{key} {number}".encode()
        try:
            engine.save(key, value)
        except KeyCollisionError:
            loaded = engine.load(key)
            if loaded is not None:
                wrong.append(f"{key!r} was refused and loads {loaded!r}")
            continue
        acknowledged += 1
        if engine.load(key) != value:
            wrong.append(f"{key!r} was saved and is {engine.load(key)!r}")
        if number % 3 == 0:
            engine.delete(key)
            if engine.exists(key):
                wrong.append(f"{key!r} was deleted and exists")
    results.put((acknowledged, wrong))


def test_processes_contending_for_a_collision_lose_nothing(tmp_path: Path) -> None:
    """Many processes save and delete both halves: one half wins for good, and keeps every acknowledged value."""
    spawn = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[int, list[str]]] = spawn.Queue()
    processes = [spawn.Process(target=contend, args=(str(tmp_path), key, 150, results)) for key in ("a?>", "a>_")]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [wrong for _, wrong in answers if wrong] == []
    assert sorted(acknowledged for acknowledged, _ in answers) == [0, 150]


def test_a_listing_never_shows_a_key_nobody_saved(engine: FileEngine) -> None:
    """While one half of many collisions is saved, a listing holds those keys and never their other halves."""

    def save() -> None:
        for number in range(300):
            engine.save(f"{number}?>", b"value")

    saving = threading.Thread(target=save)
    saving.start()
    while saving.is_alive():
        assert [key for key in engine.list_keys() if not key.endswith("?>")] == []
    saving.join()
    assert len(engine.list_keys()) == 300


def test_deleting_a_value_another_key_owns_changes_nothing(engine: FileEngine) -> None:
    """Of two who delete the halves of a name without owner one removes the value, and neither fails."""
    with ThreadPoolExecutor(2) as threads:
        for _ in range(30):
            engine.path_for("a?>").write_bytes(b"of the Rust runtime")
            list(threads.map(engine.delete, ["a?>", "a>_"]))
            assert not engine.path_for("a?>").exists()
            with suppress(FileNotFoundError):
                (engine.base_dir / owner_filename_for(filename_for("a?>"))).unlink()
