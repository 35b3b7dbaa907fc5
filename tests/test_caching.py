"""``store.cache``: results of functions, computed once for each version of the function and of its arguments."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from races import race

import persistkit
from persistkit.errors import FormatError, ReadOnlyError


def test_a_result_is_computed_once_under_a_readable_key(store: persistkit.Store) -> None:
    """However the same arguments are given; the result is an ordinary value of the store, and None is one."""
    calls = []

    @store.cache(ignore=["calls"])
    def train(rate: float, steps: int = 10, *, model: str = "small") -> dict[str, Any] | None:
        """Train."""
        calls.append((rate, steps, model))
        return {"loss": rate / steps} if steps else None

    for result in (train(0.5), train(0.5, 10), train(rate=0.5, model="small"), train(0.5, steps=10)):
        assert result == {"loss": 0.05}
    assert train(0.5, 0) is None
    assert train(0.5, steps=0) is None
    assert calls == [(0.5, 10, "small"), (0.5, 0, "small")]
    assert train.keys() == store.keys("cache/")
    place = f"cache/{__name__}.test_a_result_is_computed_once_under_a_readable_key.train/"
    assert all(key.startswith(place) and len(key) == len(place) + 32 for key in train.keys())  # noqa: SIM118
    assert sorted(map(str, store.values())) == ["None", "{'loss': 0.05}"]
    assert (inspect.getdoc(train), list(inspect.signature(train).parameters)) == ("Train.", ["rate", "steps", "model"])
    assert train.__wrapped__(1.0) == {"loss": 0.1}


def test_functions_call_each_other_and_themselves(store: persistkit.Store) -> None:
    """A cached function may be recursive, and use others that are; one that would wait for itself is told."""

    @store.cache
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @store.cache
    def endless(n: int) -> int:
        return endless(n) + fibonacci(n)

    assert fibonacci(30) == 832_040
    assert len(fibonacci.keys()) == 31
    with pytest.raises(RuntimeError, match="wait for ever"):
        endless(1)


def test_what_is_raised_is_not_kept(store: persistkit.Store) -> None:
    """The next call computes again, and nothing stays locked; a result that cannot be stored is an error."""
    left = [ValueError("first"), KeyboardInterrupt()]

    @store.cache(ignore=["left"])
    def fail(kind: str) -> object:
        if left:
            raise left.pop()
        return object() if kind == "odd" else kind

    with pytest.raises(KeyboardInterrupt):
        fail("text")
    with pytest.raises(ValueError, match="first"):
        fail("text")
    assert fail("text") == "text"
    with pytest.raises(FormatError, match=r"cache/.*\.fail/[0-9a-f]{32}.*object"):
        fail("odd")
    assert len(store) == 1


def test_results_are_listed_and_cleared(store: persistkit.Store) -> None:
    """Those of this function alone, under the name it was given."""
    square = store.cache(name="maths/square")(lambda x: x * x)
    other = store.cache(name="maths")(lambda x: x)
    store["cache/maths/note"] = "mine"
    assert (square(3), square(4), other(3)) == (9, 16, 3)
    assert len(square.keys()) == 2
    assert len(other.keys()) == 1
    square.clear()
    assert square.keys() == []
    assert len(other.keys()) == 1
    assert store["cache/maths/note"] == "mine"


def test_views_and_read_only_stores(tmp_path: Path) -> None:
    """A view keeps results below its prefix; what is opened read only finds them, and keeps no others."""
    calls = []

    def half(x: float) -> float:
        calls.append(x)
        return x / 2

    store = persistkit.open(tmp_path, create=True, fsync=False)
    kept = store.view("run/").cache(ignore=["calls"])(half)
    assert kept(3.0) == 1.5
    assert [key[:10] for key in store] == ["run/cache/"]
    reading = persistkit.open(tmp_path, read_only=True).view("run/").cache(ignore=["calls"])(half)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert [reading(3.0), reading(5.0), reading(5.0)] == [1.5, 2.5, 2.5]
    assert calls == [3.0, 5.0, 5.0]
    with pytest.raises(ReadOnlyError, match="half"):
        reading.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_refusals_name_the_function_and_the_way_out(store: persistkit.Store) -> None:
    """An argument that cannot be stored, a method's self, a wrong name, no source, what is no function."""

    class Model:
        @store.cache
        def score(self, text: str) -> int:
            return len(text)

        @store.cache(ignore=["self"])
        def length(self, text: str) -> int:
            return len(text)

    assert Model().length("four") == 4
    with pytest.raises(FormatError, match=r"Model\.score: self: .*ignore=\['self'\]"):
        Model().score("four")
    with pytest.raises(FormatError, match=r"length: text\['runs'\]\[0\]: object"):
        Model().length({"runs": [object()]})
    with pytest.raises(TypeError, match="missing a required argument: 'text'"):
        Model().length()
    with pytest.raises(ValueError, match=r"no argument 'client' to ignore"):
        store.cache(ignore=["client"])(len_of)
    without_source: dict[str, Any] = {}
    exec("def made(x): return x", without_source)  # noqa: S102
    with pytest.raises(TypeError, match=r"made: .* source"):
        store.cache(without_source["made"])
    for given in (len, Model, staticmethod(len_of), "name"):
        with pytest.raises(TypeError, match="takes a function written in Python, not"):
            store.cache(given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="return a list"):
        store.cache(generated)


def len_of(text: str) -> int:
    """Return the length."""
    return len(text)


def generated() -> Any:
    """Yield something."""
    yield 1


@pytest.mark.parametrize("address", ["memory:", "results", "sqlite:///state.db"])
def test_of_several_threads_one_computes(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads that ask at once get the result of one of them."""
    monkeypatch.chdir(tmp_path)
    store = persistkit.open(address, create=True)
    calls = []

    @store.cache(ignore=["calls"])
    def compute(number: int) -> int:
        calls.append(number)
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(compute, sorted([*range(10)] * 8))) == sorted([*range(10)] * 8)
    assert sorted(calls) == list(range(10))


@pytest.mark.parametrize("place", ["files", "sqlite"], indirect=True)
def test_of_several_processes_one_computes(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """The others wait for its result, and one of them takes over when it is killed."""
    assert race(place, tmp_path / "log", races=30, processes=4, kill_each=15) == (0, 2)


def test_asynchronous_functions_are_awaited(tmp_path: Path) -> None:
    """Of many tasks one computes, while the loop goes on; a cancelled one lets the next one begin."""
    store = persistkit.open(tmp_path, create=True, fsync=False)
    calls: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    @store.cache(ignore=["calls", "begun", "gate"])
    async def ask(prompt: str) -> str:
        calls.append(prompt)
        begun.set()
        await gate.wait()
        return prompt.upper()

    async def main() -> None:
        assert inspect.iscoroutinefunction(ask)
        first = asyncio.create_task(ask("hello"))
        await begun.wait()
        others = [asyncio.create_task(ask("hello")) for _ in range(20)]
        waiting = asyncio.create_task(ask("hello"))
        await asyncio.sleep(0)
        first.cancel()
        waiting.cancel()
        begun.clear()
        await begun.wait()
        gate.set()
        assert await asyncio.gather(*others) == ["HELLO"] * 20
        assert first.cancelled()
        assert waiting.cancelled()
        assert await ask("hello") == "HELLO"

    asyncio.run(main())
    assert calls == ["hello", "hello"]
    assert list(store.values()) == ["HELLO"]
