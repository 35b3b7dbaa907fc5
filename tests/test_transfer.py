"""Copying and comparing engines."""

from __future__ import annotations

import pickle
import socket
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from errno import ETIMEDOUT
from hashlib import sha256
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dict_engine import DictEngine

import persistkit
from persistkit import Engine, Entry, Store
from persistkit.arguments import BytesLike
from persistkit.engines.files import FileEngine
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import BatchError, MissingKeyError, ReadOnlyError, StorageError, TransferError
from persistkit.transfer import CopyReport, compare, copy

SAVED = datetime(2021, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
LARGE = 20 * 1024 * 1024
ITEMS = {f"run:{number % 5}/step {number}": b"%d" % number * (number % 90) for number in range(1200)} | {
    "large": b"x" * LARGE,
    "": b"",
    "a>_": b"owned",
}


def flipped(value: BytesLike) -> bytes:
    """Return a value of the same length with one bit changed, in the middle."""
    changed = bytearray(value)
    if changed:
        changed[len(changed) // 2] ^= 1
    return bytes(changed)


class DamagingEngine(DictEngine):
    """Stores something else under some keys, as a bad disk does, and refuses others."""

    def _save(self, key: str, value: BytesLike) -> None:
        if key.endswith("13"):
            raise StorageError(f"save {key!r}: refused by the test")
        super()._save(key, flipped(value) if key.endswith("17") or key == "large" else value)


def digests(engine: Engine) -> dict[str, str]:
    """Return the sha256 of every value."""
    keys = engine.list_keys()
    return {key: sha256(value or b"").hexdigest() for key, value in zip(keys, engine.batch_load(keys), strict=True)}


def failing_copy(source: Engine, target: Engine, **options: Any) -> CopyReport:
    """Return the report of a copy of which something fails."""
    with pytest.raises(TransferError) as failed:
        copy(source, target, progress=False, **options)
    assert str(failed.value) == f"copy to {target!r}: {failed.value.report}"
    assert failed.value.__cause__ in failed.value.report.failures.values()
    return failed.value.report


def times_of(engine: Engine) -> dict[str | None, datetime | None]:
    """Return when each value was saved."""
    return {entry.key: entry.modified for entry in engine.entries()}


def filled() -> MemoryEngine:
    """Return an engine with the items."""
    engine = MemoryEngine()
    engine.batch_save(ITEMS)
    return engine


def test_a_copy_is_identical_on_every_engine_and_back(store_anywhere: Store) -> None:
    """Every value arrives, and comes back, with its time; where a place keeps no times the report says so."""
    source, there, back = MemoryEngine(), store_anywhere.view("below/").engine, MemoryEngine()
    items = {"run/1": b"{}", "a>_": b"\0\xff", "": b"", "large": b"x" * 9_000_000}
    times = {key: SAVED + number * timedelta(microseconds=12_345_679) for number, key in enumerate(items)}
    source.batch_save(items, times=times)
    for one, other in ((source, there), (there, back)):
        report = copy(one, other, progress=False)
        assert report.complete
        assert (report.copied, report.skipped, report.size_bytes) == (len(items), 0, sum(map(len, items.values())))
        assert compare(one, other).empty
        if one is source:
            assert report.undated == (0 if there.keeps_times else len(items))
            assert ("time of the copy" in str(report)) == (report.undated > 0)
    assert copy(source, there, overwrite="skip", progress=False).skipped == len(items)
    assert digests(back) == digests(source)
    assert (times_of(there) == times_of(back) == times) == there.keeps_times


def test_a_value_that_arrives_changed_is_reported_and_one_that_fails_stops_nothing() -> None:
    """A bit stored wrong, in a small value or a streamed one, and a refusal are in the report; all else is copied."""
    source, target = filled(), DamagingEngine()
    report = failing_copy(source, target)
    refused = {key for key in ITEMS if key.endswith("13")}
    changed = {key for key, value in ITEMS.items() if key.endswith("17") and value} | {"large"}
    assert changed <= {key for key in changed if len(target.stored[key]) == len(ITEMS[key])}
    assert set(report.failures) == refused | changed
    assert all("gives back other bytes than were stored" in str(report.failures[key]) for key in changed)
    assert all("refused by the test" in str(report.failures[key]) for key in refused)
    assert report.copied == len(ITEMS) - len(report.failures)
    assert report.size_bytes == sum(len(value) for key, value in ITEMS.items() if key not in report.failures)
    assert not report.complete
    assert f"{len(report.failures)} failed, the first" in str(report)
    unverified = failing_copy(source, DamagingEngine(), verify=False)
    assert set(unverified.failures) == refused


def test_what_is_there_is_kept_or_replaced_as_asked() -> None:
    """An existing key is a failure, is left, or is replaced; the prefix selects."""
    source, target = filled(), MemoryEngine()
    target.save("large", b"mine")
    report = failing_copy(source, target)
    assert set(report.failures) == {"large"}
    assert report.copied == len(ITEMS) - 1
    report = copy(source, target, overwrite="skip", progress=False)
    assert (report.copied, report.skipped, report.failures) == (0, len(ITEMS), {})
    assert target.load("large") == b"mine"
    report = copy(source, target, prefix="large", overwrite="replace", progress=False)
    assert (report.copied, report.skipped) == (1, 0)
    assert target.load("large") == ITEMS["large"]


def test_an_interrupted_copy_goes_on(tmp_path: Path) -> None:
    """A copy interrupted at work leaves whole values with their times; with skip the next one stores the others."""

    class Interrupted(MemoryEngine):
        batches = 0

        def _batch_load(self, keys: list[str]) -> list[bytes | None]:
            self.batches += 1
            if self.batches == 2:
                raise KeyboardInterrupt
            return super()._batch_load(keys)

    source = Interrupted()
    source.batch_save(ITEMS)
    target = FileEngine(tmp_path / "there", create=True, fsync=False)
    with pytest.raises(KeyboardInterrupt):
        copy(source, target, progress=False)
    there = digests(target)
    assert 0 < len(there) < len(ITEMS)
    assert there.items() <= digests(source).items()
    assert times_of(target).items() <= times_of(source).items()
    report = copy(source, target, overwrite="skip", progress=False)
    assert (report.skipped, report.copied) == (len(there), len(ITEMS) - len(there))
    assert digests(target) == digests(source)
    assert times_of(target) == times_of(source)


def test_a_copy_keeps_little_in_memory(tmp_path: Path) -> None:
    """A value of 80 MB is streamed, and many of 1 MB go in batches: a copy and a comparison take less than 120 MB."""
    source, target = (FileEngine(tmp_path / name, create=True, fsync=False) for name in ("one", "other"))
    for number in range(200):
        source.save(f"run/{number}", bytes(1_000_000))
    with source.open_writer("large") as writer:
        for _ in range(80):
            writer.write(b"x" * 1_000_000)
    tracemalloc.start()
    assert copy(source, target, progress=False).copied == 201
    assert compare(source, target).empty
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120_000_000


def test_a_value_deleted_while_it_is_copied_is_reported() -> None:
    """What the listing named and the source no longer has is a failure that says so, small or large."""

    class Vanishing(DictEngine):
        def _entries(self, prefix: str) -> Iterator[Entry]:
            yield from super()._entries(prefix)
            yield Entry("gone", 5, None)
            yield Entry("large and gone", LARGE, None)

    source, target = Vanishing(), MemoryEngine()
    source.save("there", b"value")
    report = failing_copy(source, target)
    assert {key: "was deleted in" in str(error) for key, error in report.failures.items()} == {
        "gone": True,
        "large and gone": True,
    }
    assert target.list_keys() == ["there"]


@pytest.mark.parametrize("broken", ["_existing", "_batch_save", "_batch_load", "_open_reader", "_open_writer"])
@pytest.mark.parametrize("error", [StorageError("gone"), ValueError("a driver's own")], ids=repr)
def test_a_target_that_fails_as_a_whole_stops_no_copy(
    broken: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an engine raises, for a batch or a streamed value, is in the report, and the rest is copied."""

    class Broken(DictEngine):
        pass

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Broken, broken, fail)
    target = Broken()
    report = failing_copy(filled(), target)
    affected = {"large"} if "open" in broken else set(ITEMS) if broken == "_existing" else set(ITEMS) - {"large"}
    assert report.failures
    assert all(failure is error for failure in report.failures.values())
    assert report.copied == len(ITEMS) - len(report.failures)
    assert set(report.failures) == affected


def test_a_failure_is_not_tried_for_ever_and_what_was_stored_is_not_stored_again() -> None:
    """An engine that stops answering is asked once a batch; failures under names of another place are those of all."""

    class Stopping(DictEngine):
        saved = 0

        def _save(self, key: str, value: BytesLike) -> None:
            self.saved += 1
            if self.saved > 3:
                raise StorageError(f"save {key!r}: no answer", errno=ETIMEDOUT)
            super()._save(key, value)

        def _batch_load(self, keys: list[str]) -> list[bytes | None]:
            raise BatchError("elsewhere", {f"elsewhere/{key}": StorageError("refused") for key in keys})

    source, target = MemoryEngine(), Stopping()
    source.batch_save({f"run/{number}": b"done" for number in range(9)})
    report = failing_copy(source, target, verify=False)
    assert (report.copied, len(report.failures), target.saved) == (3, 6, 4)
    assert failing_copy(target, MemoryEngine()).failures.keys() == target.stored.keys()


def test_a_large_value_is_compared_in_few_pieces() -> None:
    """A bucket is asked once for each piece, so they are megabytes."""
    asked = []

    class Raw(RawIOBase):
        def __init__(self, value: bytes) -> None:
            self._rest = BytesIO(value)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            asked.append(len(buffer))
            return self._rest.readinto(buffer)

    class Asking(DictEngine):
        def _open_reader(self, key: str) -> BufferedReader:
            return BufferedReader(Raw(self.stored[key]), 1024 * 1024)

    one, other = Asking(), Asking()
    for engine in (one, other):
        engine.save("large", b"x" * LARGE)
    assert compare(one, other).empty
    assert len(asked) <= 2 * (1 + LARGE // 4_000_000)


@pytest.mark.parametrize("size", [None, -1, 10**400, "12"], ids=repr)
def test_odd_sizes_in_a_listing_stop_no_copy(size: Any) -> None:
    """Whatever size an engine claims, the value is copied whole, and compares as equal to itself."""

    class Odd(DictEngine):
        def _entries(self, prefix: str) -> Iterator[Entry]:
            return (Entry(entry.key, size, None) for entry in super()._entries(prefix))

    source, target = Odd(), MemoryEngine()
    source.save("run/1", b"value")
    assert copy(source, target, progress=False).complete
    assert target.load("run/1") == b"value"
    assert compare(source, source).empty


def test_compare_names_each_difference() -> None:
    """Missing keys, other sizes and other contents of one size are rows, sorted by key."""
    left, right = filled(), filled()
    left.save("only here", b"value")
    right.save("there only", b"value")
    right.save("run:1/step 1", b"other size")
    right.save("large", flipped(ITEMS["large"]))
    right.save("a>_", flipped(ITEMS["a>_"]))
    table = compare(left, right)
    assert list(table.itertuples(index=False, name=None)) == [
        ("a>_", "different"),
        ("large", "different"),
        ("only here", "only left"),
        ("run:1/step 1", "different"),
        ("there only", "only right"),
    ]
    assert list(table.dtypes) == 2 * [pd.Series(["a"]).dtype]
    assert compare(left, right, prefix="run:1")["key"].tolist() == ["run:1/step 1"]


def test_a_value_of_unknown_key_is_reported(tmp_path: Path) -> None:
    """A file whose key cannot be known is not copied under a guess, and a comparison shows it."""
    source, target = FileEngine(tmp_path / "there", create=True), MemoryEngine()
    (tmp_path / "there" / "foreign-0123456789abcdef.bin").write_bytes(b"value")
    report = copy(source, target, progress=False)
    assert report.unknown == ["foreign-0123456789abcdef.bin"]
    assert not report.complete
    assert "1 of unknown key left, the first 'foreign-" in str(report)
    difference = compare(source, target)
    assert difference["key"].isna().tolist() == [True]
    assert difference["status"].tolist() == ["only left"]


def test_a_value_under_a_guessed_key_is_reported(tmp_path: Path) -> None:
    """Where another program stored ``a?>`` the copy has it under ``a>_``; the report says so, and is not complete."""
    (tmp_path / "a__-000000000b8857e3.bin").write_bytes(b"value")
    source, target = persistkit.open(tmp_path, read_only=True), MemoryEngine()
    report = source.copy_to(target, progress=False)
    assert (report.copied, report.ambiguous, report.complete) == (1, ["a>_"], False)
    assert "1 under a guessed key, the first 'a>_'" in str(report)
    assert (target.load("a>_"), source.alternatives("a>_")) == (b"value", ["a?>"])


def test_what_cannot_be_a_copy_is_refused() -> None:
    """One place as source and target, an unknown word, or a target opened read only is refused at once."""
    source = filled()
    with pytest.raises(ValueError, match="one place"):
        copy(source, Store(source), progress=False)
    with pytest.raises(ValueError, match="'replace'"):
        copy(source, MemoryEngine(), overwrite="yes", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ReadOnlyError, match=r"copy: .* was opened read only"):
        copy(source, persistkit.open("memory:", read_only=True), progress=False)


def test_a_target_that_does_not_answer_is_waited_for_once_a_batch() -> None:
    """Somebody listens and says nothing: no key of a batch waits again, and each of them is in the report."""
    source = MemoryEngine()
    source.batch_save({f"run:{number}": b"done" for number in range(1000)})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"valkey://127.0.0.1:{silent.getsockname()[1]}/0"
        with persistkit.open_engine(address, timeout_seconds=1) as target:
            began = time.monotonic()
            report = failing_copy(source, target, overwrite="skip")
            assert time.monotonic() - began < 9
    assert set(report.failures) == set(source.list_keys())


def test_a_source_that_tells_no_times_is_no_failure() -> None:
    """The values have the time of the copy, and the report says so."""
    untimed = DictEngine()
    untimed.batch_save(ITEMS)
    report = copy(untimed, MemoryEngine(), progress=False)
    assert (report.undated, report.complete) == (len(ITEMS), True)
    assert f"{len(ITEMS):,} with the time of the copy" in str(report)


def test_a_key_that_was_named_and_is_not_there_is_a_failure() -> None:
    """What is there is copied, and the report names the other."""
    source, target = filled(), MemoryEngine()
    report = failing_copy(source, target, keys=["large", "lost"])
    assert {key: type(error) for key, error in report.failures.items()} == {"lost": MissingKeyError}
    assert target.list_keys() == ["large"]


def test_the_target_is_asked_for_a_batch_of_keys_at_once() -> None:
    """What is there already is found with one question for each batch, not one for each key."""

    class Counting(DictEngine):
        asked = 0

        def _existing(self, keys: list[str]) -> set[str]:
            Counting.asked += 1
            return {key for key in keys if key in self.stored}

        def _exists(self, key: str) -> bool:
            raise AssertionError(key)

    assert copy(filled(), Counting(), progress=False).copied == len(ITEMS)
    assert Counting.asked <= 1 + len(ITEMS) // 500


def test_the_error_of_a_copy_survives_pickling() -> None:
    """A worker process hands its report back whole."""
    with pytest.raises(TransferError) as failed:
        copy(filled(), filled(), progress=False)
    again = pickle.loads(pickle.dumps(failed.value))  # noqa: S301
    assert (str(again), set(again.report.failures)) == (str(failed.value), set(ITEMS))
