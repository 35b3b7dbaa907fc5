"""One engine in several processes: a forked child goes on with it."""

from __future__ import annotations

import os
import pickle
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest
from children import in_child

from persistkit.engines import open_engine


@pytest.mark.parametrize("place", ["files", "sqlite", "postgresql", "valkey"], indirect=True)
def test_parent_and_child_go_on_using_one_engine(place: tuple[str, dict[str, Any]]) -> None:
    """A forked child opens a connection of its own, as a pickled engine does, and its writes outlive the parent's."""
    address, options = place
    said, heard = os.pipe(), os.pipe()
    with open_engine(address, create=True, **options) as engine:
        engine.save("parent", b"1")

        def child() -> None:
            assert engine.load("parent") == b"1"
            engine.save("child", b"2")
            os.write(said[1], b".")
            for _ in range(100):
                assert engine.load("child") == b"2"
            os.read(heard[0], 1)
            engine.save("later", b"3")

        process = get_context("fork").Process(target=child)
        process.start()
        os.read(said[0], 1)
        for _ in range(100):
            assert engine.load("parent") == b"1"
        assert engine.load("child") == b"2"
        engine.close()
        os.write(heard[1], b".")
        process.join(60)
        assert process.exitcode == 0
        assert engine.batch_load(["parent", "child", "later"]) == [b"1", b"2", b"3"]
        in_child(partial(pickle.loads(pickle.dumps(engine)).save, "last", b"4"))  # noqa: S301 - its own bytes
        assert engine.load("last") == b"4"
