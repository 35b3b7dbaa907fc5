"""Copying and comparing backends."""

from __future__ import annotations

import asyncio
import socket
import time
from hashlib import sha256
from pathlib import Path

import pytest

from persistkit import FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend
from persistkit.backends.redis import RedisPersistenceBackend
from persistkit.backends.sql import SQLPersistenceBackend
from persistkit.errors import StorageError
from persistkit.operations import BytesLike
from persistkit.store import Store
from persistkit.transfer import compare, copy

ITEMS = {f"run:{number % 5}/step {number}": b"%d" % number * (number % 90) for number in range(1200)} | {
    "large": b"x" * (20 * 1024 * 1024),
    "": b"",
    "a>_": b"claimed",
}


class RefusingBackend(MemoryPersistenceBackend):
    """Refuses some keys, and damages others, as a bad disk does."""

    async def save(self, key: str, value: BytesLike) -> None:
        """Store, refuse, or store something else."""
        if key.endswith("13"):
            raise StorageError(f"save {key!r}: refused by the test")
        await super().save(key, b"damaged" if key.endswith("17") else value)


async def digests(backend: PersistenceBackend) -> dict[str, str]:
    """Return the sha256 of every value."""
    keys = await backend.list_keys()
    return {
        key: sha256(value or b"").hexdigest() for key, value in zip(keys, await backend.batch_load(keys), strict=True)
    }


async def filled() -> MemoryPersistenceBackend:
    """Return a backend with the items."""
    backend = MemoryPersistenceBackend()
    await backend.batch_save(ITEMS)
    return backend


async def test_a_copy_is_identical_on_every_engine_and_back(tmp_path: Path) -> None:
    """Memory to a directory to SQLite to memory: every value arrives byte for byte, and nothing differs."""
    source, back = await filled(), MemoryPersistenceBackend()
    directory = FilePersistenceBackend(tmp_path / "there", create=True, fsync=False)
    async with SQLPersistenceBackend(f"sqlite:///{tmp_path}/state.db", create=True) as database:
        for one, other in ((source, directory), (directory, database), (database, back)):
            report = await copy(one, other, progress=True)
            assert report.complete
            assert (report.copied, report.size_bytes) == (len(ITEMS), sum(map(len, ITEMS.values())))
            assert (await compare(one, other)).empty
    assert await digests(back) == await digests(source)


async def test_a_failing_key_is_reported_and_stops_nothing() -> None:
    """Refused and damaged keys are in the report, everything else is copied."""
    source, target = await filled(), RefusingBackend()
    report = await copy(source, target, progress=False)
    refused = {key for key in ITEMS if key.endswith(("13", "17"))}
    assert set(report.failures) == refused
    assert report.copied == len(ITEMS) - len(refused)
    assert not report.complete
    assert "failed" in str(report)


async def test_what_is_there_is_kept_or_replaced_as_asked() -> None:
    """An existing key is a failure, is left, or is replaced."""
    source, target = await filled(), MemoryPersistenceBackend()
    await target.save("large", b"mine")
    report = await copy(source, target, progress=False)
    assert set(report.failures) == {"large"}
    assert report.copied == len(ITEMS) - 1
    report = await copy(source, target, overwrite="skip", progress=False)
    assert (report.copied, report.skipped, report.failures) == (0, len(ITEMS), {})
    assert await target.load("large") == b"mine"
    report = await copy(source, target, prefix="large", overwrite="replace", progress=False)
    assert (report.copied, report.skipped) == (1, 0)
    assert await target.load("large") == ITEMS["large"]


async def test_an_interrupted_copy_goes_on(tmp_path: Path) -> None:
    """A copy cancelled at work leaves whole values, and with skip the next one stores only what is missing."""
    source = await filled()
    target = FilePersistenceBackend(tmp_path / "there", create=True, fsync=False)
    work = asyncio.create_task(copy(source, target, progress=False))
    while not await target.key_count():
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    there = await digests(target)
    assert 0 < len(there) < len(ITEMS)
    assert there.items() <= (await digests(source)).items()
    report = await copy(source, target, overwrite="skip", progress=False)
    assert (report.skipped, report.copied) == (len(there), len(ITEMS) - len(there))
    assert await digests(target) == await digests(source)


async def test_compare_names_each_difference() -> None:
    """Missing keys, other sizes and other contents of one size are rows, sorted by key."""
    left, right = await filled(), await filled()
    await left.save("only here", b"value")
    await right.save("there only", b"value")
    await right.save("run:1/step 1", b"other size")
    await right.save("large", ITEMS["large"][:-1] + b"y")
    await right.save("a>_", b"Claimed")
    table = await compare(left, right)
    assert list(table.itertuples(index=False, name=None)) == [
        ("a>_", "different"),
        ("large", "different"),
        ("only here", "only left"),
        ("run:1/step 1", "different"),
        ("there only", "only right"),
    ]
    assert list(table.dtypes.astype(str)) == ["str", "str"]


async def test_a_value_of_unknown_key_is_reported(tmp_path: Path) -> None:
    """A file whose key cannot be known is not copied under a guess, and a comparison shows it."""
    source = FilePersistenceBackend(tmp_path / "there", create=True)
    (source.base_dir / "foreign-0123456789abcdef.bin").write_bytes(b"value")
    target = MemoryPersistenceBackend()
    report = await copy(source, target, progress=False)
    assert report.unknown == ["foreign-0123456789abcdef.bin"]
    assert not report.complete
    assert list((await compare(source, target))["status"]) == ["only left"]


def test_stores_copy_and_compare(tmp_path: Path) -> None:
    """A store copies itself to another one and compares with it, without await."""
    with Store(MemoryPersistenceBackend()) as one, Store(FilePersistenceBackend(tmp_path / "s", create=True)) as other:
        one["a"], one["b"] = 1, [2]
        assert one.copy_to(other).copied == 2
        assert dict(other) == {"a": 1, "b": [2]}
        assert one.compare(other).empty
        other["b"] = [3]
        assert list(one.compare(other)["status"]) == ["different"]


async def test_what_cannot_be_a_copy_is_refused() -> None:
    """One backend as source and target, or an unknown word, is refused before anything is stored."""
    source = await filled()
    with pytest.raises(ValueError, match="one backend"):
        await copy(source, source, progress=False)
    with pytest.raises(ValueError, match="'replace'"):
        await copy(source, MemoryPersistenceBackend(), overwrite="yes", progress=False)  # type: ignore[arg-type]


async def test_a_target_that_does_not_answer_is_waited_for_once_a_batch() -> None:
    """Somebody listens and says nothing: no key of a batch waits again, and each of them is in the report."""
    source = MemoryPersistenceBackend()
    await source.batch_save({f"run:{number}": b"done" for number in range(1000)})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        target = RedisPersistenceBackend(f"valkey://127.0.0.1:{port}/0", timeout_seconds=1)
        began = time.monotonic()
        report = await copy(source, target, overwrite="skip", progress=False)
        assert time.monotonic() - began < 9
        await target.aclose()
    assert set(report.failures) == set(await source.list_keys())
