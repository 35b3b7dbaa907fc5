"""The key browser: every key of a backend in a notebook, paged, searched, sorted and previewed."""

from __future__ import annotations

from persistkit.backend import PersistenceBackend, check_backend
from persistkit.browser.widget import KeyBrowser

__all__ = ["KeyBrowser", "browse"]


def __dir__() -> list[str]:
    return __all__


def browse(
    backend: PersistenceBackend, *, read_only: bool = True, load_line: str = "await backend.load({key})"
) -> KeyBrowser:
    """Show every key of ``backend`` in a notebook.

    Args:
        backend: what to browse; it is listed in the background.
        read_only: refuse every deletion, whatever the page asks for.
        load_line: the Python line "Copy code" gives, ``{key}`` standing for the key as a literal.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> browser = browse(MemoryPersistenceBackend())
        >>> browser.wait(timeout_seconds=10)
        True
        >>> browser
        KeyBrowser(MemoryPersistenceBackend: 0 keys, 0 B)
    """
    check_backend(backend, "browse")
    return KeyBrowser(backend, read_only=read_only, load_line=load_line)
