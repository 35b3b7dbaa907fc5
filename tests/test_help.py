"""What ``help()`` and tab completion tell about each public name."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import IPCompleter, provisionalcompleter

import persistkit
from persistkit import Engine, PersistenceBackend
from persistkit.testing import BackendContract, EngineContract

# What a person imports; the other modules are the house's own.
MODULES = [
    "persistkit",
    "persistkit.agents",
    "persistkit.agents.rust",
    "persistkit.browser",
    "persistkit.engines",
    "persistkit.engines.files",
    "persistkit.engines.memory",
    "persistkit.engines.objects",
    "persistkit.engines.postgresql",
    "persistkit.engines.redis",
    "persistkit.engines.sqlite",
    "persistkit.errors",
    "persistkit.formats",
    "persistkit.frames",
    "persistkit.keys",
    "persistkit.testing",
    "persistkit.transfer",
]
NAMES = {
    f"{value.__module__}.{name}": value
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if callable(value := getattr(importlib.import_module(module), name)) and hasattr(value, "__module__")
    if value.__module__.startswith("persistkit")
}
# What one name promises as another one does is told there.
ELSEWHERE = re.compile(r"\b(?:see|as|of|what) ``[\w.]+``")
CONTRACTS = (BackendContract, EngineContract)
CLASSES = {name: value for name, value in NAMES.items() if inspect.isclass(value) and value not in CONTRACTS}


def help_of(value: object) -> str:
    """Return what ``help`` shows first."""
    return inspect.getdoc(value) or ""


def untold(value: Callable[..., Any], text: str) -> list[str]:
    """Return the options of ``value`` that ``text`` neither names nor leaves to another name's help."""
    if ELSEWHERE.search(text):
        return []
    if inspect.isclass(value) and issubclass(value, Exception) and "__init__" not in vars(value):
        return []
    parameters = inspect.signature(value).parameters.values()
    options = [parameter.name for parameter in parameters if parameter.default is not parameter.empty]
    return [name for name in options if not re.search(rf"\b{name}\b", text)]


@pytest.mark.parametrize("value", NAMES.values(), ids=NAMES)
def test_help_tells_the_promise_and_the_options(value: Callable[..., Any]) -> None:
    """Each public name opens with a sentence and explains every option."""
    text = help_of(value)
    first = text.partition("\n\n")[0].replace("\n", " ")
    assert first.endswith(".")
    assert untold(value, text) == []


@pytest.mark.parametrize(
    "value", [value for value in NAMES.values() if inspect.isfunction(value)], ids=lambda v: v.__name__
)
def test_help_tells_the_errors(value: Callable[..., Any]) -> None:
    """A function that raises an error of its own names it under ``Raises``."""
    raised = {
        line.split("raise ")[1].partition("(")[0].strip()
        for line in inspect.getsource(value).splitlines()
        if line.strip().startswith("raise ") and "(" in line
    }
    text = help_of(value)
    told_elsewhere = ELSEWHERE.search(text) is not None
    assert told_elsewhere or {name for name in raised if name[0].isupper() and f"{name}:" not in text} == set()


@pytest.mark.parametrize("owner", CLASSES.values(), ids=CLASSES)
def test_help_of_each_method_tells_its_options(owner: type) -> None:
    """Each public method has a sentence; its options are told there, in its class, or where the contract stands."""
    members = {name: member for parent in reversed(owner.__mro__) for name, member in vars(parent).items()}
    for name, member in members.items():
        function = member.fget if isinstance(member, property) else member
        # What Python's own mapping and widget classes bring is theirs to explain.
        if name.startswith("_") or not inspect.isfunction(function) or not function.__module__.startswith("persistkit"):
            continue
        own = help_of(getattr(owner, name))
        assert own, f"{owner.__name__}.{name} has no help"
        contract = "".join(help_of(getattr(kind, name, None)) + help_of(kind) for kind in (Engine, PersistenceBackend))
        told = own + help_of(owner) + contract
        assert untold(function, told) == [], f"{owner.__name__}.{name}"


def test_tab_completion_of_objects_shows_no_helpers() -> None:
    """A store, an engine and a backend offer their documented methods and attributes, each of which can be read."""
    store = persistkit.open("memory:")
    for thing in (store, store.engine, persistkit.EngineBackend(store.engine)):
        shown = [name for name in dir(thing) if not name.startswith("_")]
        assert {"read_only", "address", "engine"} >= set(shown) - set(dir(type(thing)))
        assert all(hasattr(thing, name) for name in shown)


def test_tab_after_a_bracket_offers_the_keys() -> None:
    """IPython, and so a notebook, completes ``store["ru`` to the keys that begin so."""
    store = persistkit.open("memory:")
    store.update({"run/1": 1, "run/2": 2, "other": 3})
    typed = 'store["ru'
    # The completer of %magics alone needs a whole running IPython.
    completer = IPCompleter(  # type: ignore[no-untyped-call]
        namespace={"store": store}, use_jedi=False, disable_matchers=["IPCompleter.magic_matcher"]
    )
    with provisionalcompleter():
        offered = [completion.text for completion in completer.completions(typed, len(typed))]
    assert offered == ["run/1", "run/2"]


def test_tab_on_a_store_that_is_gone_offers_nothing(tmp_path: Path) -> None:
    """No traceback comes between a person and the line being typed."""
    store = persistkit.open(tmp_path / "gone", create=True)
    (tmp_path / "gone").rmdir()
    assert store._ipython_key_completions_() == []
