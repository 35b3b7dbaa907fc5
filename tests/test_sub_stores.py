"""``store.view``: the keys below a prefix as a store of their own, plain and typed."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, assert_type

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr
from typing_extensions import TypedDict

import persistkit
from persistkit.engines.memory import MemoryEngine
from persistkit.engines.prefix import PrefixEngine
from persistkit.errors import BatchError, FormatError, InvalidKeyError, MissingKeyError, ReadOnlyError
from persistkit.testing import EngineContract


class TestPrefixEngine(EngineContract):
    """The contract holds for what is passed on; below a longer prefix, keys are shorter, as the next tests see."""

    def make_engine(self) -> PrefixEngine:
        """Return a view of all keys."""
        return PrefixEngine(MemoryEngine(), "")

    def read_raw(self, engine: Any, key: str) -> bytes | None:
        """Read below the view."""
        value: bytes | None = engine.engine.load(key)
        return value


@dataclass
class RunConfig:
    """A dataclass with what JSON has no word for."""

    rate: float
    begun: datetime = datetime(2026, 11, 25)
    layers: tuple[int, ...] = ()
    price: Decimal = field(default=Decimal("1.50"))


class Model(BaseModel):
    """A pydantic model."""

    name: str
    inner: dict[int, list[float]] = {}


class Strict(BaseModel):
    """One that takes no text for a time."""

    model_config = ConfigDict(strict=True)

    at: datetime
    sizes: tuple[int, ...]
    price: Decimal


class WithPrivate(BaseModel):
    """A pydantic model with an attribute that is no field, but counts when two are compared."""

    _note: str = PrivateAttr("as it begins")

    def __init__(self, note: str = "as it begins") -> None:
        super().__init__()
        self._note = note


class Row(TypedDict):
    """A typed dict."""

    loss: float


class Color(Enum):
    """An enum."""

    RED = "red"
    BLUE = 3


@pytest.fixture(params=["memory:", "results", "sqlite:///state.db"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> persistkit.Store:
    """A store with two runs and something else."""
    monkeypatch.chdir(tmp_path)
    store = persistkit.open(request.param, create=True)
    store.update({"run/1": {"loss": 0.5}, "run/2": {"loss": 0.25}, "other": 1})
    return store


def test_a_view_has_everything_a_store_has(store: persistkit.Store) -> None:
    """Reads, writes, batches, listings, tables, copies and the browser see the keys below the prefix alone."""
    view = store.view("run/")
    assert (list(view), len(view), "1" in view, "run/1" in view) == (["1", "2"], 2, True, False)
    view["3"] = {"loss": 0.125}
    view.update({"4": {"loss": 1}, "5": {"loss": 2}})
    del view["4"]
    assert view.pop("5") == {"loss": 2}
    assert (view.add("3", 1), view.modify("3", lambda run: {**run, "a": 1})) == (False, {"loss": 0.125, "a": 1})
    assert store["run/3"] == {"loss": 0.125, "a": 1}
    assert dict(view.items()) == {key[4:]: value for key, value in store.items() if key.startswith("run/")}
    frame = view.to_frame()
    assert sorted(frame["key"]) == ["1", "2", "3"]
    assert set(frame["filename"]) == set(store.to_frame(prefix="run/")["filename"])
    assert list(view.values_frame()["loss"]) == [0.5, 0.25, 0.125]
    assert view.keys(glob="[12]") == ["1", "2"]
    with persistkit.open("memory:") as copied:
        assert view.copy_to(copied, progress=False).copied == 3
        assert view.compare(copied).empty
        assert list(copied) == ["1", "2", "3"]
    with view.engine.open_writer("streamed") as file:
        file.write(b"text")
    assert (store["run/streamed"], view.engine.read_range("streamed", 1, 2)) == ("text", b"ex")
    view.clear()
    assert dict(store) == {"other": 1}


def test_views_nest_and_stay_read_only(store: persistkit.Store) -> None:
    """A view of a view is one; what is read only stays so."""
    store["run/1/steps/7"] = "step"
    nested = store.view("run/").view("1/").view("steps/")
    assert dict(nested) == {"7": "step"}
    assert nested.view("")["7"] == "step"
    read_only = persistkit.Store(store, read_only=True).view("run/")
    for write in (lambda: read_only.update({"9": 1}), lambda: read_only.engine.save("9", b"1"), read_only.clear):
        with pytest.raises(ReadOnlyError):
            write()  # type: ignore[no-untyped-call]
    assert read_only["1"] == {"loss": 0.5}
    assert len(read_only) == 3


def test_a_thread_does_not_wait_for_itself_through_a_view(store: persistkit.Store) -> None:
    """Whoever has a lock of the store, and asks a view of it for the same one, is told."""
    view = store.view("run/").engine
    with store.engine.lock("run/1"), view.lock("2"), pytest.raises(RuntimeError, match="run/1"), view.lock("1"):
        pass


def test_a_view_names_its_own_keys(tmp_path: Path) -> None:
    """A missing key, a batch that fails and the keys of one filename are named as the view knows them."""
    store = persistkit.open(tmp_path)
    view = store.view("run/")
    view["first"] = 1
    with pytest.raises(MissingKeyError, match=r"^firsd:") as caught:
        view["firsd"]
    assert caught.value.__notes__ == ["Did you mean 'first'?"]
    view["a?>"] = 1
    assert "a>_" in view.alternatives("a?>") or "a?>" in view.alternatives("a>_")
    with pytest.raises(BatchError) as failed:
        view.update({"a>_": 2, "fine": 3})
    assert list(failed.value.failures) == ["a>_"]
    store.engine.path_for("run/first").unlink()  # type: ignore[attr-defined]  # a directory's engine
    store.engine.path_for("run/first").mkdir()  # type: ignore[attr-defined]
    with pytest.raises(BatchError) as told_once:
        persistkit.open(tmp_path, read_only=True).engine.batch_load(["run/first", "fine"])
    assert not isinstance(told_once.value.__cause__, BatchError)
    with pytest.raises(InvalidKeyError):
        view["x" * 1_022] = 1
    with pytest.raises(TypeError, match="prefix"):
        store.view(1)  # type: ignore[call-overload]


def test_a_view_goes_to_a_worker(tmp_path: Path) -> None:
    """It is pickled with its prefix and its type."""
    store = persistkit.open(tmp_path)
    store.view("run/", RunConfig)["1"] = RunConfig(0.5)
    again = pickle.loads(pickle.dumps(store.view("run/", RunConfig)))  # noqa: S301 - our own
    assert again["1"] == RunConfig(0.5)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RunConfig, RunConfig(float("nan"), datetime(2026, 1, 2), (1, 2), Decimal("0.10"))),
        (Model, Model(name="a", inner={1: [0.5]})),
        (Strict, Strict(at=datetime(2026, 1, 2), sizes=(1, 2), price=Decimal("0.10"))),
        (Row, {"loss": 0.5}),
        (Color, Color.RED),
        (Color, Color.BLUE),
    ],
    ids=repr,
)
def test_values_of_ones_own_types_come_back(store: persistkit.Store, kind: Any, value: Any) -> None:
    """On every path out of the view, and as JSON that anybody reads below it."""
    view = store.view("typed/", kind)
    view["a"] = value
    view.update({"b": value}, progress=False)
    assert view.add("c", value)
    assert view.setdefault("c", value) is not None
    for read in (
        view["a"],
        view.get("b"),
        dict(view.items())["c"],
        view.load_many(["a"])["a"],
        next(iter(view.values())),
    ):
        assert type(read) is type(value)
        assert repr(read) == repr(value)
    assert store.format_of("typed/a") in ("json", "text")
    assert repr(view.pop("a")) == repr(value)
    assert repr(view.modify("b", lambda old: old)) == repr(value)


def test_a_bad_value_names_key_and_field(store: persistkit.Store) -> None:
    """What is missing, of an older version too, and what is wrong is told without the values; nothing is stored."""
    store.update({"run/old": {"begun": "2026-11-25T00:00:00"}, "run/bad": {"rate": "secret", "layers": [1, "x"]}})
    view = store.view("run/", RunConfig)
    with pytest.raises(FormatError, match=r"load 'old': not a RunConfig: rate: is missing; .*give the field a default"):
        view["old"]
    for read in (
        lambda: view["bad"],
        lambda: view.get("bad"),
        lambda: view.pop("bad"),
        lambda: view.load_many(["bad"]),
    ):
        with pytest.raises(FormatError, match=r"load 'bad': not a RunConfig: rate: .*, layers\.1: "):
            read()
    with pytest.raises(FormatError) as caught:
        view["bad"]
    assert "secret" not in "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__)))
    assert "run/bad" in store
    assert "old" not in dict(view.items(errors="skip"))
    for wrong in ({"rate": 0.5}, 3, RunConfig("fast"), Model(name="a")):  # type: ignore[arg-type]
        with pytest.raises(FormatError, match="store 'new': "):
            view["new"] = wrong  # type: ignore[assignment]
        with pytest.raises(FormatError, match="store 'new': "):
            view.update({"fine": RunConfig(1.0), "new": wrong})
    assert not {"run/new", "run/fine"} & set(store)


def test_what_a_type_cannot_keep_is_refused_by_field_without_its_value(store: persistkit.Store) -> None:
    """A field of another type, bytes that JSON has no text for, and a private attribute that would be lost."""
    view = store.view("run/", RunConfig)
    with pytest.raises(
        FormatError, match=r"^store 'a': not a RunConfig that JSON can hold: rate: not float$"
    ) as caught:
        view["a"] = RunConfig("secret")  # type: ignore[arg-type]
    assert "secret" not in "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__)))
    with pytest.raises(FormatError, match=r"store 'a': .*utf-8"):
        store.view("any/", dict[str, Any])["a"] = {"data": b"\xff"}
    with pytest.raises(FormatError, match=r"store 'a': .*is not equal"):
        store.view("private/", WithPrivate)["a"] = WithPrivate(note="lost")
    store.view("private/", WithPrivate)["a"] = WithPrivate(note="as it begins")
    assert store.keys(prefix="private/") == ["private/a"]
    assert store.keys("any/") == []
    assert "run/a" not in store


def test_what_pydantic_does_not_know_is_refused_at_once() -> None:
    """A class without fields that pydantic could see is no type of values."""
    with pytest.raises(TypeError, match="a view of Engine: "):
        persistkit.open("memory:").view("run/", persistkit.Engine)  # type: ignore[type-abstract]


def test_type_checkers_know_the_values_and_the_options() -> None:
    """Checked by mypy, where an ignored error that is none is one: values have their type, options their names."""
    store = persistkit.open("memory:")
    view = store.view("run/", RunConfig)
    view["a"] = RunConfig(0.5)
    assert_type(view, persistkit.Store[RunConfig])
    assert_type(view["a"], RunConfig)
    assert_type(view.view("b")["x"] if "x" in view else view["a"], RunConfig)
    with pytest.raises(FormatError):
        view["b"] = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="creat"):
        persistkit.open("memory:", creat=True)  # type: ignore[call-arg]
    assert_type(view.modify("a", lambda run: run), RunConfig)
