"""The values of a store, awaited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import persistkit
from persistkit import FormatError, Store

VALUES: dict[str, Any] = {"run/1": {"loss": 0.25}, "run/2": [1, (2, 3)], "text": "words", "array": np.arange(3)}


@pytest.fixture(params=["memory", "files", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store[Any]:
    """Return an empty store."""
    addresses = {"memory": "memory:", "files": str(tmp_path / "files"), "sqlite": f"sqlite:///{tmp_path}/s.db"}
    return persistkit.open(addresses[request.param], create=True)


def test_values_come_back_as_without_await(store: Store[Any]) -> None:
    """What is set is what load, get, load_many and items give, of the same types, and what the store itself reads."""

    async def work() -> None:
        for key, value in VALUES.items():
            await store.aio.set(key, value)
        assert await store.aio.keys("run/") == ["run/1", "run/2"]
        assert type((await store.aio.load("run/2"))[1]) is tuple
        assert (await store.aio.get("array")).tolist() == [0, 1, 2]
        assert await store.aio.load("run/1", "text") == store.load("run/1", "text")
        assert await store.aio.load_many(["text", "run/1"]) == {"text": "words", "run/1": {"loss": 0.25}}
        assert [key async for key, _ in store.aio.items()] == sorted(VALUES)
        assert {key: value async for key, value in store.aio.items(prefix="run/")} == await store.aio.load_many(
            glob="run/*"
        )

    asyncio.run(work())
    assert store["run/1"] == {"loss": 0.25}
    assert set(store) == set(VALUES)


def test_changes_and_errors_are_those_of_the_store(store: Store[Any]) -> None:
    """A missing key, a value that cannot be kept and a damaged one raise what the store raises; steps are atomic."""

    async def work() -> None:
        with pytest.raises(persistkit.MissingKeyError):
            await store.aio.load("lost")
        with pytest.raises(persistkit.MissingKeyError):
            await store.aio.delete("lost")
        assert await store.aio.get("lost", 7) == 7
        with pytest.raises(FormatError):
            await store.aio.set("object", object())
        assert await store.aio.add("count", 0)
        assert not await store.aio.add("count", 5)
        await asyncio.gather(*(store.aio.modify("count", lambda count: count + 1) for _ in range(20)))
        assert await store.aio.modify("new", lambda count: count + 1, 0) == 1
        await store.aio.update({"a": 1}, b=2)
        await store.aio.delete("a")
        assert (await store.aio.contains("a"), await store.aio.contains("b")) == (False, True)
        store.put_bytes("damaged", b"\x93NUMPY")
        for _ in range(2):  # the second time from the system's cache
            assert await store.aio.get("damaged") == b"\x93NUMPY"
            with pytest.raises(FormatError, match="damaged"):
                await store.aio.load("damaged")
        await store.aio.aclose()
        assert await store.aio.load("b") == 2

    asyncio.run(work())
    assert store["count"] == 20


def test_a_typed_view_is_awaited_too(tmp_path: Path) -> None:
    """A view has its own ``aio``, with its prefix."""
    view = persistkit.open(tmp_path / "s", create=True).view("run/")

    async def work() -> None:
        await view.aio.set("1", 2)
        assert await view.aio.keys() == ["1"]
        assert view.aio is view.aio

    asyncio.run(work())
