"""``store.cache``: which calls share a result, and which have one of their own."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import wrap_non_picklable_objects  # type: ignore[import-untyped]

import persistkit

SOME = {"b": (1, {"d": 2.5, 3: {"x", "y"}}), "a": np.arange(6).reshape(2, 3)}
SAME = {"a": np.asfortranarray(SOME["a"]), "b": (1, {3: {"y", "x"}, "d": 2.5})}


def module_of(path: Path, source: str) -> Any:
    """Return a module with this source, made anew; Any: it has what the source says."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def test_arguments_count_by_type_and_value(store: persistkit.Store) -> None:
    """Equal ones of one type share a result, in whatever order a dict was filled; others have their own."""
    calls = []

    @store.cache(ignore=["calls"])
    def count(*values: Any, **named: Any) -> int:
        calls.append((values, named))
        return len(calls)

    different: list[Any] = [0, 0.0, False, None, "0", b"0", "None", "", (), [], {}, set(), (0,), [0], (0, 0), 2**70]
    different += [float("nan"), SOME, [SOME], "x" * 9, [1, [pd.Series([1])]], {1: "a", "1": "a"}]
    different += [pd.DataFrame({"a": [1]}), pd.Timestamp(0), np.int64(0), np.zeros(()), np.zeros(1)]
    different += [len, np, lambda x: x, lambda y: y]
    assert [count(value) for value in different] == list(range(1, len(different) + 1))
    assert [count(value) for value in different] == list(range(1, len(different) + 1))
    assert count(SAME) == count(SOME)
    assert count(a=1, b=2) == count(b=2, a=1) == len(different) + 1
    assert count(1, 2) != count((1, 2)) != count(2, 1)


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    """A process that orders sets and dicts in another way finds the results of the first one."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import persistkit
from numpy import array, asfortranarray
store = persistkit.open({str(tmp_path / "results")!r}, create=True, fsync=False)
def make(letters):
    @store.cache
    def search(words, *, options=None): return sorted(letters | words)
    return search
if __name__ == "__main__":
    search = make({{"a", "b", "c"}})
    options = {{"x": {{"s", "t", "u"}}, "y": asfortranarray(array([[1, 2], [3, 4]]))}}
    print(search({{"d", "e", "f"}}, options=options), search.keys())
""")
    told = set()
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        told.add(subprocess.run([sys.executable, script], env=environment, capture_output=True, check=True).stdout)
    assert len(told) == 1
    assert b"'cache/make.search/" in told.pop()


def test_a_process_without_the_source_finds_the_results(tmp_path: Path) -> None:
    """A worker of joblib gets a function of a notebook as bytes, with its closure and without its source."""
    store = persistkit.open(tmp_path / "results", create=True, fsync=False)
    source = tmp_path / "models.py"
    module = module_of(source, "def make(by):\n    def scaled(x):\n        return by * x\n    return scaled\n")
    double = store.cache(module.make(2))
    assert double(21) == 42
    data = pickle.dumps(wrap_non_picklable_objects(double))
    source.unlink()
    script = "import pickle, sys; double = pickle.load(sys.stdin.buffer); print(double(21), double(4))"
    told = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert told.stdout.split() == [b"42", b"8"]
    assert len(store) == 2


def test_a_changed_function_computes_anew(store: persistkit.Store, tmp_path: Path) -> None:
    """The source counts and what the closure holds; not where the function stands, nor what follows it."""
    calls: list[str] = []

    def called(source: str, take: Callable[[Any], Any] = lambda module: module.double) -> Any:
        module = module_of(tmp_path / "models.py", source)
        double = store.cache(take(module))
        result = double(21)
        calls[:] = double.keys()
        return result

    assert called("def double(x):\n    return 2 * x") == 42
    assert called("# Moved.\n\n\ndef double(x):\n    return 2 * x\n\n\ndef other(): ...\n") == 42
    assert len(calls) == 1
    assert called("def double(x):\n    return 2.0 * x") == 42.0
    assert len(calls) == 2
    closing = (
        "def make(factor, by=lambda x: {0} * x):\n    def double(x):\n        return by(factor * x)\n    return double"
    )
    for number, (constant, factor) in enumerate([(1, 2), (1, 3), (2, 2), (2, 2)]):
        result = called(closing.format(constant), methodcaller("make", factor))
        assert result == 21 * constant * factor
        assert len(calls) == min(number + 1, 3)


def test_functions_that_look_alike_have_results_of_their_own(store: persistkit.Store) -> None:
    """Two of one line, two of one source that hold others, methods of two values, and nested classes of one name."""

    @store.cache
    def apply(function: Callable[[Any], Any], argument: Any) -> Any:
        return function(argument)

    def after(factor: int, function: Callable[[int], int]) -> Callable[[int], int]:
        def scaled(number: int) -> int:
            return function(factor * number)

        return scaled

    class Left:
        class Inner(int):
            def __new__(cls, number: int) -> Any:
                return f"left {number}"

    class Right:
        class Inner(int):
            def __new__(cls, number: int) -> Any:
                return f"right {number}"

    one_line = [lambda x: x + 1, lambda x: x + 2]
    pairs: list[list[Any]] = [
        one_line,
        [after(2, after(3, one_line[0])), after(2, after(5, one_line[0]))],
        [{4: "a"}.get, {4: "b"}.get],
        [Left.Inner, Right.Inner],
    ]
    for pair in pairs:
        assert [apply(function, 4) for function in pair] == [function(4) for function in pair]
    line = store.cache(name="line")
    assert [line(function)(4) for function in one_line] == [5, 6]


def test_a_function_may_be_cached_in_two_stores(store: persistkit.Store, tmp_path: Path) -> None:
    """The first one asks the second one; what wraps a cached function otherwise counts as itself."""
    calls = []
    slow = persistkit.open(tmp_path, create=True, fsync=False)

    @store.cache(ignore=["calls"])
    @slow.cache(ignore=["calls"])
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    def changed(change: Callable[[Any], Any]) -> Callable[[int], Any]:
        @wraps(double)
        def call(number: int) -> Any:
            return change(double(number))

        return call

    assert [double(21), double(21)] == [42, 42]
    store.clear()
    assert (double(21), calls) == (42, [21])
    assert len(store) == len(slow) == 1
    assert [store.cache(changed(change))(21) for change in (abs, float)] == [42, 42.0]
    assert len(store) == 3
