"""Values made to harm whoever opens them, through every format and every way the library shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistkit import BlockingBackend, FilePersistenceBackend

from .hostile import hostile_values
from .ledger import Ledger, Trials
from .opener import Opener

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
    BlockingBackend(FilePersistenceBackend(base, fsync=False)).batch_save(hostile_values())
    return base


@pytest.mark.parametrize(
    ("way", "begins", "controls"),
    [("in_store", "", CONTROLLED), ("in_table", "json", CONTROLLED[:1]), ("in_browser", "", CONTROLLED[:1])],
)
def test_hostile_values_are_bounded(values: Path, way: str, begins: str, controls: list[str], ledger: Ledger) -> None:
    """Every hostile value, in every way of opening it, ends in a FormatError or something small, in bounded memory."""
    kept, control = Trials(), Trials()
    with Opener() as opener:
        for key in BlockingBackend(FilePersistenceBackend(values)).list_keys(begins):
            kept.add(*opener.broken(way, key, values))
        for key in controls:
            control.add(*opener.broken("without_care", key, values))
    ledger.record(PROMISE, kept, control)
