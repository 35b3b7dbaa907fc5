"""The key browser: every key of an engine in a notebook, paged, searched, sorted and previewed."""

from __future__ import annotations

from typing import Any

from persistkit.browser.widget import KeyBrowser

__all__ = ["KeyBrowser", "browse"]


def browse(
    place: Any, *, read_only: bool = True, load_line: str = "engine.load({key})", height: int = 440
) -> KeyBrowser:
    """Show every key of ``place`` in a notebook.

    Args:
        place: an engine, a store or a backend; it is listed in the background. Any: ``engine_of`` tells what it takes.
        read_only: refuse every deletion, whatever the page asks for.
        load_line: the Python line "Copy code" gives, ``{key}`` standing for the key as a literal.
        height: of the browser, in pixels; it can be dragged.

    Raises:
        TypeError: ``place`` is nothing of the kind; the message never shows it.

    Example:
        >>> from persistkit.engines.memory import MemoryEngine
        >>> browser = browse(MemoryEngine())
        >>> browser.wait(timeout_seconds=10)
        True
        >>> browser
        KeyBrowser(MemoryEngine: 0 keys, 0 B)
    """
    return KeyBrowser(place, read_only=read_only, load_line=load_line, height=height)
