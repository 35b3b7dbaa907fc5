"""Event loops one after the other: a notebook's, a script's, one that was interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from persistkit.arguments import BytesLike
from persistkit.backend import FilePersistenceBackend, MemoryPersistenceBackend, PersistenceBackend
from persistkit.keys import filename_for

from .operations import KEY, NEW, OLD, OWNED
from .report import Report, Trials

LOOPS = 20


async def use(backend: PersistenceBackend, number: int) -> list[str]:
    """Use every kind of operation; return what came back wrong."""
    value = b"%d " % number + NEW
    await backend.save(KEY, value)
    await backend.batch_save({OWNED: value})
    async with backend.open_writer("stream") as writer:
        await writer.write(value)
    loaded = await backend.batch_load([KEY, OWNED, "stream"])
    listed = [entry.size async for entry in backend.entries()]
    await backend.delete("stream")
    return [f"loop {number} loads {loaded}"] * (loaded != [value] * 3) + [f"lists {listed}"] * (
        listed != [len(value)] * 3
    )


async def interrupted(backend: PersistenceBackend) -> None:
    """Leave a listing and a stream half done, and be cancelled in the middle of a save."""
    listing = backend.entries()
    await anext(aiter(listing))
    saving = asyncio.ensure_future(backend.save("interrupted", OLD))
    await asyncio.sleep(0)
    saving.cancel()
    async with backend.open_writer("half"):
        raise KeyError


class BoundToFirstLoop(FilePersistenceBackend):
    """The control: keeps the event loop it was first used in."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def save(self, key: str, value: BytesLike) -> None:
        """Save in a thread of the first loop."""
        self._loop = self._loop or asyncio.get_running_loop()
        await self._loop.run_in_executor(None, self.engine.save, key, value)


def loop_after_loop(make: Callable[[], PersistenceBackend]) -> Trials:
    """Give one backend to one loop after the other, every third of which is interrupted."""
    trials, backend = Trials(), make()
    for number in range(LOOPS):
        try:
            wrong = asyncio.run(use(backend, number))
            if number % 3 == 0:
                with pytest.raises(KeyError):
                    asyncio.run(interrupted(backend))
                asyncio.run(backend.delete("interrupted"))
        except RuntimeError as error:
            wrong = [f"loop {number}: {error}"]
        trials.add(*wrong)
    return trials


def test_one_loop_after_the_other(tmp_path: Path, report: Report) -> None:
    """One object works in every new loop, also after a loop that ended in the middle of things."""
    kept = loop_after_loop(lambda: FilePersistenceBackend(tmp_path))
    kept += loop_after_loop(MemoryPersistenceBackend)
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".bin"} == {
        filename_for(KEY),
        filename_for(OWNED),
    }
    control = loop_after_loop(lambda: BoundToFirstLoop(tmp_path))
    report.record("event loops one after the other: one object serves them all", kept, control)
