"""Selection: which keys a method works on, said in the same three words everywhere: ``keys``, ``prefix``, ``glob``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate

from persistkit.arguments import check_keys, check_prefix, shared_start
from persistkit.engine import Engine
from persistkit.entry import Entry

__all__ = ["Selection"]


class Selection:
    """The keys that are in ``keys``, start with ``prefix`` and match ``glob``: see ``Store.keys``.

    What is not given holds for every key; empty ``keys`` select nothing.
    """

    def __init__(self, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None) -> None:
        check_prefix(prefix)
        _check_glob(glob)
        self._prefix = prefix
        self._pattern = None if glob is None else re.compile(translate(glob))
        self._named: dict[str, None] | None = None
        starts = [prefix, "" if glob is None else re.split(r"[*?[]", glob, maxsplit=1)[0]]
        if keys is not None:
            _check_several(keys)
            self._named = dict.fromkeys(filter(self._fits, check_keys(keys)))
            starts.append(shared_start(self._named))
        # Only keys that begin so are listed. Where two of the starts exclude each other, none of those fits.
        self._start = max(starts, key=len)
        self._selects_all = keys is None and glob is None and not prefix

    def __contains__(self, key: str | None) -> bool:
        """Tell whether a key is selected; one that is unknown (None) only where everything is."""
        if self._selects_all or key is None:
            return self._selects_all
        return self._fits(key) if self._named is None else key in self._named

    def entries(self, engine: Engine) -> Iterator[Entry]:
        """Iterate over what ``engine`` stores of the selection, in the engine's order; raises as ``Engine.entries``."""
        if self._named == {}:
            return iter(())
        listed = engine.entries(self._start)
        return listed if self._selects_all else (entry for entry in listed if entry.key in self)

    def list_keys(self, engine: Engine) -> list[str]:
        """Return the selected keys that ``engine`` stores, sorted as a listing; raises as ``Engine.list_keys``."""
        if self._named is not None:
            return sorted(engine.existing(self._named))
        listed = engine.list_keys(self._start)
        return listed if self._pattern is None else list(filter(self._fits, listed))

    def named_or_listed(self, engine: Engine) -> list[str]:
        """Return the named keys, stored or not, in their order; where none were named, those ``engine`` lists."""
        return self.list_keys(engine) if self._named is None else list(self._named)

    def _fits(self, key: str) -> bool:
        return key.startswith(self._prefix) and (self._pattern is None or self._pattern.match(key) is not None)


def _check_several(keys: object) -> None:
    if isinstance(keys, str):
        raise TypeError(f"keys= takes several keys in a list, not one text: write keys=[{keys!r}], or prefix={keys!r}")
    if not isinstance(keys, Iterable) or hasattr(keys, "columns"):
        column = '; of a table take its column, such as table["key"]' if hasattr(keys, "columns") else ""
        raise TypeError(
            f"keys= takes several keys in a list, such as ['run/1', 'run/2'], not {type(keys).__name__}{column}"
        )


def _check_glob(glob: object) -> None:
    if glob is not None and not isinstance(glob, str):
        several = "; for several keys write keys=[...]" if isinstance(glob, (list, tuple, set)) else ""
        raise TypeError(f"glob= takes one pattern, such as 'run/*', not {type(glob).__name__}{several}")
