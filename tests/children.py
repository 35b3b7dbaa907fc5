"""Work in forked children, for what must not happen to the tests' own process."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context

__all__ = ["become_nobody", "in_child"]


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child that ends as scripts end, and see that it succeeds."""
    process = get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def become_nobody() -> None:
    """Give up being root."""
    os.setgroups([])
    os.setgid(65_534)
    os.setuid(65_534)
