"""Values made to harm whoever opens them, through every format and every way the library shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from payloads import in_a_process, mutants

from persistkit.engines.files import FileEngine

from . import sandbox
from .fork_server import ForkServer
from .hostile import hostile_values
from .report import Report, Trials

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

PROMISE = "a hostile value is a FormatError or a bounded preview, within 2 s of the processor and 500 MB"
CONTROLLED = [
    "json arrays 100,000 deep",
    "npy a shape of 10**18",
    "npy objects that run code",
    "parquet a text of 60 KB a million times",
]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every hostile value under its name."""
    base = tmp_path_factory.mktemp("hostile")
    FileEngine(base, fsync=False).batch_save(hostile_values())
    return base


@pytest.mark.parametrize(
    ("way", "begins", "controls"),
    [("in_store", "", CONTROLLED), ("in_table", "json", CONTROLLED[:1]), ("in_browser", "", CONTROLLED[:1])],
)
def test_hostile_values_are_bounded(values: Path, way: str, begins: str, controls: list[str], report: Report) -> None:
    """Every hostile value, in every way of opening it, ends in a FormatError or something small, in bounded memory."""
    kept, control = Trials(), Trials()
    with ForkServer(sandbox.__name__) as server:
        for key in FileEngine(values).list_keys(begins):
            kept.add(*sandbox.broken(server, way, key, values))
        for key in controls:
            control.add(*sandbox.broken(server, "without_care", key, values))
    report.record(PROMISE, kept, control)


def test_ten_thousand_mutants_of_a_payload_are_values_or_damage() -> None:
    """Nothing but a value or a FormatError comes of a payload of LangGraph's with changed bytes, and no module."""
    assert set(in_a_process(mutants(10_000))) == {"value", "damaged"}
