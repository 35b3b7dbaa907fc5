"""What is suggested for a key, or a method, that is not there."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from dict_engine import DictEngine
from IPython.core.interactiveshell import InteractiveShell

import persistkit
from persistkit import Engine, Entry, Store
from persistkit.errors import ListingNotSupportedError, MissingKeyError


class Unlistable(DictEngine):
    """An engine that counts how often it was asked for a listing, and has none."""

    asked = 0

    def _entries(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002
        self.asked += 1
        raise ListingNotSupportedError("this engine cannot list")


def test_a_missing_key_names_itself_and_a_near_one(store: Store) -> None:
    """KeyError names the key, and IPython shows the one that was meant, for reading and for deleting."""
    store["session:1"] = 1
    shell = InteractiveShell.instance()
    for ask in (lambda: store["sesion:1"], lambda: store.__delitem__("sesion:1"), lambda: store.pop("sesion:1")):
        with pytest.raises(KeyError) as caught:
            ask()
        assert caught.value.args == ("sesion:1",)
        assert str(caught.value) == "sesion:1: not in this store; keys() lists what is there"
        shown = "".join(shell.InteractiveTB.structured_traceback(caught.type, caught.value, caught.tb))
        assert "Did you mean 'session:1'?" in shown


def test_a_miss_lists_nothing_until_it_is_shown_to_a_person() -> None:
    """Asking, logging and pickling cost no listing; printing the traceback looks once, and survives a failing look."""
    engine = Unlistable()
    store = Store(engine)
    store["run/1"] = 1
    assert (store.get("run/2"), store.get("run/2", 5), store.pop("run/2", 6), "run/2" in store) == (None, 5, 6, False)
    for ask in (lambda: store["run/2"], lambda: store.__delitem__("run/2"), lambda: store.load_many(["run/2"])):
        with pytest.raises(KeyError) as caught:
            ask()
        logging.getLogger("test").error("missing: %s %r", caught.value, caught.value)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), MissingKeyError)  # noqa: S301 - our own
        assert engine.asked == 0
        assert caught.value.__notes__ == caught.value.__notes__ == []
        assert engine.asked == 1
        engine.asked = 0


def test_where_looking_for_a_near_key_took_long_it_is_not_done_again() -> None:
    """In a store of many keys the first traceback looks, without reading all of it, and the next one does not."""
    given = []

    class Large(DictEngine):
        def _entries(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002
            for number in range(1_000_000):
                given.append(number)
                yield Entry(f"run/{number}", 1, None)

    store = Store(Large())
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            store["run/-1"]
        assert caught.value.__notes__ == []
        assert len(given) == 10_001


def test_methods_of_other_libraries_are_spelled_out() -> None:
    """Whoever tries delete or exists is told how a dict spells it."""
    store: Any = persistkit.open("memory:")
    for name, spelling in (("delete", "del store[key]"), ("exists", "key in store")):
        with pytest.raises(AttributeError) as caught:
            getattr(store, name)
        assert spelling in str(caught.value)
        assert hasattr(Engine, name)
