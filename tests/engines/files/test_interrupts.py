"""Interrupts: a durable batch leaves nothing behind, wherever one reaches its caller."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from persistkit import batches
from persistkit.engines.files import FileEngine, directory


def test_an_interrupt_at_any_line_of_a_durable_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    """It is raised as it is, and nothing changes any more; or it came too late, and all is saved."""
    engine = FileEngine(tmp_path)
    items = dict.fromkeys(["a", "b", "c"], b"value")
    for number in count(1):
        lines, interrupted = interrupted_at_line(number, lambda: engine.batch_save(items))
        found = inodes(tmp_path)
        assert {name.partition("-")[0] for name in found} <= set(items)
        assert interrupted or len(found) == len(items)
        if lines < number:
            break
        for path in tmp_path.iterdir():
            path.unlink()
    assert number > 10


def interrupted_at_line(number: int, work: Callable[[], object]) -> tuple[int, bool]:
    """Interrupt ``work`` at that line of ours; return how many there were, and whether it was raised."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:  # Any: a trace function returns itself
        nonlocal lines
        if frame.f_code.co_filename not in (batches.__file__, directory.__file__):
            return None
        lines += event == "line"
        if lines == number and event == "line":
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return lines, True
    finally:
        sys.settrace(None)
    return lines, False


def inodes(folder: Path) -> dict[str, int]:
    """Return the files of a folder, each with its inode, which a rename over it changes."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}
