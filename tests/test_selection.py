"""Which keys a method works on: the same three words, with the same meaning, on every method and engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import persistkit
from persistkit import Store
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import MissingKeyError
from persistkit.selection import Selection

KEYS = ["Run/3", "a?>", "log:1", "run/1", "run/10", "run/2", "run/2:weights", "run/[2]", "日本/1"]
SELECTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, KEYS),
    ({"prefix": "run/2"}, ["run/2", "run/2:weights"]),
    ({"glob": "run/?"}, ["run/1", "run/2"]),
    ({"glob": "run/2*"}, ["run/2", "run/2:weights"]),
    ({"glob": "*[!0-9]"}, ["a?>", "run/2:weights", "run/[2]"]),
    ({"prefix": "run/", "glob": "*1*"}, ["run/1", "run/10"]),
    ({"prefix": "run/1", "glob": "run*0"}, ["run/10"]),
    ({"prefix": "log", "glob": "run*"}, []),
    ({"keys": ["run/2", "a?>", "missing", "run/2"]}, ["a?>", "run/2"]),
    ({"keys": {"日本/1": 0, "run/1": 0, "run/10": 0}, "prefix": "run/", "glob": "*1"}, ["run/1"]),
    ({"keys": []}, []),
    ({"glob": ""}, []),
]
# What each method makes of a selection, as the keys it worked on.
METHODS: dict[str, Callable[..., Iterable[str]]] = {
    "keys": lambda store, **which: store.keys(**which),
    "items": lambda store, **which: dict(store.items(**which)),
    "values": lambda store, **which: [value["key"] for value in store.values(**which)],
    "to_frame": lambda store, **which: store.to_frame(**which)["key"],
    "values_frame": lambda store, **which: store.values_frame(**which).index,
    "load_many": lambda store, **which: store.load_many(**which),
    "search": lambda store, **which: set(store.search("key", **which)["key"]),
    "prune": lambda store, **which: store.prune(keep_last=0, **which)["key"],
    "copy_to": lambda store, **which: copied(store, **which),
    "compare": lambda store, **which: store.compare(persistkit.open("memory:"), **which)["key"],
}
SENTENCE = (
    "Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given."
)
TAKERS = [
    *("keys", "items", "to_frame", "values_frame", "load_many", "clear", "browse", "usage"),
    *("search", "prune", "copy_to", "compare"),
]

# What else they must be given.
NEEDED: dict[str, tuple[Any, ...]] = {
    "search": ("key",),
    "copy_to": (persistkit.open("memory:"),),
    "compare": (persistkit.open("memory:"),),
}
RULES: dict[str, dict[str, Any]] = {"prune": {"keep_last": 0, "dry_run": False}}


def copied(store: Store, **which: Any) -> Store:
    """Return a copy of the selected keys."""
    target = persistkit.open("memory:")
    store.copy_to(target, **which)
    return target


def filled(store: Store) -> Store:
    """Store a small object under each of the keys."""
    store.update({key: {"key": key} for key in KEYS})
    return store


def test_methods_select_the_same_keys_on_every_engine(store_anywhere: Store) -> None:
    """Each word alone, several together, and none select what they say; what is left out is still there."""
    store = filled(store_anywhere)
    for name, ask in METHODS.items():
        for which, expected in SELECTIONS:
            asked = {word: list(value) if word == "keys" else value for word, value in which.items()}
            if name in ("load_many", "copy_to") and "missing" in asked.get("keys", ()):
                asked["keys"].remove("missing")
            assert sorted(ask(store, **asked)) == expected, (name, asked)
    assert store.usage(prefix="run/2", depth=2)["keys"].tolist() == [1, 1]
    store.clear(keys=["run/1", "Run/3", "missing"], glob="run*")
    store.clear(prefix="run/2")
    store.clear(keys=[])
    assert list(store) == ["Run/3", "a?>", "log:1", "run/10", "run/[2]", "日本/1"]


def test_a_browser_shows_the_selected_keys() -> None:
    """The browser lists what was asked for and nothing else."""
    browser = filled(persistkit.open("memory:")).browse(prefix="run/", glob="*2*")
    assert browser.wait(timeout_seconds=60)
    assert "3 keys" in repr(browser)
    browser.close()


def test_a_selection_is_meant_below_the_prefix_of_a_view() -> None:
    """In a view, and in a view of it, keys, prefix and pattern are those without the view's prefix."""
    store = filled(persistkit.open("memory:"))
    view = store.view("run/")
    assert view.keys(glob="?") == ["1", "2"]
    assert store.view("ru").view("n/").keys("2", glob="*w*") == ["2:weights"]
    view.clear(keys=["1", "run/2"])
    view.clear(prefix="run/")
    assert list(view) == ["10", "2", "2:weights", "[2]"]
    view.clear()
    assert list(store) == ["Run/3", "a?>", "log:1", "日本/1"]


def test_views_of_selected_items_are_those_of_a_dict() -> None:
    """Length, membership and set operations of ``items`` and ``values`` are over what was selected."""
    store = filled(persistkit.open("memory:"))
    items, values = store.items(prefix="run/1"), store.values(keys=["run/1", "missing"])
    assert (len(items), len(values)) == (2, 1)
    assert store.keys(keys=iter(["run/2", "run/1"])) == ["run/1", "run/2"]
    assert ("run/1", {"key": "run/1"}) in items
    assert ("run/2", {"key": "run/2"}) not in items
    others: list[Any] = [("run/1",), (1, 2), "run/1", ("missing", 0)]
    assert [item for item in others if item in items] == []
    assert {"key": "run/2"} not in values
    store.clear()
    store.update(a=1, b=2)
    assert store.items(glob="a") & {("a", 1), ("b", 2)} == {("a", 1)}


def test_named_keys_that_are_not_there() -> None:
    """Loading them is an error, a table of values names them, everything else leaves them out; the order is kept."""
    store = filled(persistkit.open("memory:"))
    with pytest.raises(MissingKeyError, match="missing: not in this store"):
        store.load_many(["run/1", "missing"])
    assert list(store.load_many(["run/2", "run/1", "missing"], prefix="run/")) == ["run/2", "run/1"]
    frame = store.values_frame(keys=["run/2", "missing", "run/1"])
    assert (list(frame.index), frame.attrs["skipped"]) == (["run/2", "run/1"], {"missing": "not in this store"})


@given(
    st.lists(st.text("ab*[", max_size=4), unique=True),
    st.none() | st.lists(st.text("ab*[", max_size=4)),
    st.text("ab*[", max_size=2),
    st.none() | st.text("ab*?[]!", max_size=5),
)
def test_a_selection_is_what_python_would_filter(
    stored: list[str], keys: list[str] | None, prefix: str, glob: str | None
) -> None:
    """Listed, asked one by one or as entries: the keys are those a plain loop over all of them keeps."""
    engine = MemoryEngine()
    engine.batch_save(dict.fromkeys(stored, b"value"))
    selection = Selection(keys, prefix, glob)
    expected = sorted(
        key
        for key in stored
        if (keys is None or key in keys) and key.startswith(prefix) and (glob is None or fnmatchcase(key, glob))
    )
    assert selection.list_keys(engine) == expected
    assert sorted(entry.key or "" for entry in selection.entries(engine)) == expected
    assert sorted(key for key in stored if key in selection) == expected
    assert sorted(filter(stored.__contains__, selection.named_or_listed(engine))) == expected


@pytest.mark.parametrize(
    ("which", "advice"),
    [
        ({"keys": "run/1"}, r"not one text: write keys=\['run/1'\], or prefix='run/1'"),
        ({"keys": 3}, r"a list, such as \['run/1', 'run/2'\], not int$"),
        ({"keys": pd.DataFrame({"key": ["run/1"]})}, r'not DataFrame; of a table take its column.*table\["key"\]'),
        ({"glob": ["run/*"]}, r"one pattern, such as 'run/\*', not list; for several keys write keys=\[...\]"),
        ({"prefix": 1}, r"a prefix must be text \(str\), not int: 1"),
    ],
    ids=repr,
)
def test_a_mistaken_selection_is_refused_before_anything_happens(which: dict[str, Any], advice: str) -> None:
    """Every method says the same of one text for several keys, a list for a pattern, and what holds no keys."""
    store = filled(persistkit.open("memory:"))
    for name in TAKERS:
        with pytest.raises(TypeError, match=advice):
            getattr(store, name)(*NEEDED.get(name, ()), **{**which, **RULES.get(name, {})})
    assert list(store) == KEYS


def test_every_method_on_several_keys_says_which() -> None:
    """Whatever takes ``keys``, ``prefix`` or ``glob`` takes all three, and its help says so in one sentence."""
    methods = {name: value for name, value in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    words = {"keys", "prefix", "glob"}
    takers = {name: words & set(inspect.signature(value).parameters) for name, value in methods.items()}
    assert {name for name, taken in takers.items() if taken and name != "view"} >= set(TAKERS)
    for name in TAKERS:
        assert takers[name] == words
        assert SENTENCE in (inspect.getdoc(methods[name]) or "")
