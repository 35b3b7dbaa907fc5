"""The order of the calls that make a value durable, by which a missing one is noticed without losing power."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine
from persistkit.keys import filename_for, owner_filename_for


class Recorder:
    """The syncs of files and directories, and what is renamed, linked and removed, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        for name in ("fsync", "replace", "link", "unlink"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, original: Callable[..., None]) -> Callable[..., None]:
        def recorded(*arguments: object) -> None:
            if name == "fsync":
                path = Path(os.readlink(f"/proc/self/fd/{arguments[0]}"))
                is_directory = stat.S_ISDIR(path.stat().st_mode)
                self.calls.append(("sync", "directory" if is_directory else path.read_text()))
            elif name == "unlink":
                self.calls.append((name, Path(str(arguments[0])).name))
            else:
                self.calls.append((name, Path(str(arguments[1])).name))
            original(*arguments)

        return recorded

    def taken(self) -> list[tuple[str, str]]:
        """Return the calls since the last time, but for the removal of temporary files."""
        calls, self.calls = self.calls, []
        return [call for call in calls if not call[1].endswith(".tmp")]


KEY, OWNED = "session:1", "a?>"
NAME, OWNED_NAME = filename_for(KEY), filename_for(OWNED)
OWNER_NAME = owner_filename_for(OWNED_NAME)
DIRECTORY = ("sync", "directory")


@pytest.fixture
def engine(tmp_path: Path) -> FileEngine:
    """An empty directory, durable."""
    return FileEngine(tmp_path)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What the engine asks of the system."""
    return Recorder(monkeypatch)


def test_a_save_syncs_the_file_renames_it_and_syncs_the_directory(engine: FileEngine, recorder: Recorder) -> None:
    """The value, whole, is synced under its temporary name; the rename is synced before the save returns."""
    expected = [("sync", "value"), ("replace", NAME), DIRECTORY]
    engine.save(KEY, b"value")
    assert recorder.taken() == expected
    engine.batch_save({KEY: b"value"})
    assert recorder.taken() == expected
    with engine.open_writer(KEY) as writer:
        writer.write(b"val")
        writer.write(b"ue")
    assert recorder.taken() == expected
    with engine.open_writer(KEY) as writer:
        writer.write(b"value")
        writer.close()
    assert recorder.taken() == expected
    engine.replace(KEY, b"newer", b"value")
    assert recorder.taken() == [("sync", "newer"), ("link", ".persistkit-locks"), ("replace", NAME), DIRECTORY]
    engine.delete(KEY)
    assert recorder.taken() == [("unlink", NAME), DIRECTORY]
    engine.add(KEY, b"value")
    assert recorder.taken() == [("sync", "value"), ("link", NAME), DIRECTORY]


def test_an_owner_file_is_durable_before_its_value_is_stored(engine: FileEngine, recorder: Recorder) -> None:
    """The owner file is written, synced and linked, and the directory synced, before the value's rename."""
    engine.save(OWNED, b"value")
    owner = [("sync", OWNED), ("link", OWNER_NAME), DIRECTORY]
    assert recorder.taken() == [("sync", "value"), *owner, ("replace", OWNED_NAME), DIRECTORY]


def test_a_batch_syncs_every_file_before_the_first_rename_and_the_directory_once(
    engine: FileEngine, recorder: Recorder
) -> None:
    """A group: all files, all renames, one sync of the directory; a batch of removals syncs once too."""
    values = {f"key {number}": b"value %d" % number for number in range(40)}
    engine.batch_save(values)
    calls = recorder.taken()
    assert sorted(calls[:40]) == sorted(("sync", value.decode()) for value in values.values())
    assert calls[40:] == [*(("replace", filename_for(key)) for key in values), DIRECTORY]
    engine.batch_delete(values)
    assert recorder.taken() == [*(("unlink", filename_for(key)) for key in values), DIRECTORY]
    engine.batch_delete(values)
    assert DIRECTORY not in recorder.taken()  # nothing was there


def test_without_fsync_nothing_is_synced(tmp_path: Path, recorder: Recorder) -> None:
    """``fsync=False`` leaves the moment of writing to the system."""
    engine = FileEngine(tmp_path / "new", create=True, fsync=False)
    engine.batch_save({KEY: b"value", OWNED: b"value"})
    engine.save(KEY, b"new")
    engine.add("added", b"value")
    with engine.open_writer(KEY) as writer:
        writer.write(b"value")
    engine.batch_delete([KEY, OWNED])
    assert [call for call in recorder.taken() if call[0] == "sync"] == []


def test_created_directories_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``create`` every directory that gained an entry is synced."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    FileEngine(tmp_path / "a" / "b", create=True)
    assert set(synced) == {str(tmp_path), str(tmp_path / "a")}
