"""The key browser: every key of an engine in a notebook, paged, searched, sorted and previewed."""

from __future__ import annotations

from typing import Any

from persistkit.browser.widget import KeyBrowser
from persistkit.selection import Selection

__all__ = ["KeyBrowser", "browse"]


def browse(
    place: Any,
    *,
    selection: Selection | None = None,
    read_only: bool = True,
    load_line: str = "engine.load({key})",
    height: int = 440,
) -> KeyBrowser:
    """Show the keys of ``place`` in a notebook; the arguments are those of ``KeyBrowser``.

    Raises:
        TypeError: ``place`` is no engine, store or backend; the message never shows it.
    """
    return KeyBrowser(place, selection=selection, read_only=read_only, load_line=load_line, height=height)
