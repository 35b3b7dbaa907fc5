"""Engines of a user's own: four methods over a dict, for tests to change."""

from __future__ import annotations

from collections.abc import Iterator

from persistkit import Engine, Entry
from persistkit.arguments import BytesLike

__all__ = ["DictEngine", "Listing"]


class DictEngine(Engine):
    """Keeps the values in ``stored``, and no times."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def _save(self, key: str, value: BytesLike) -> None:
        self.stored[key] = bytes(value)

    def _load(self, key: str) -> bytes | None:
        return self.stored.get(key)

    def _delete(self, key: str) -> None:
        self.stored.pop(key, None)

    def _entries(self, prefix: str) -> Iterator[Entry]:
        return (Entry(key, len(value), None) for key, value in list(self.stored.items()) if key.startswith(prefix))


class Listing(DictEngine):
    """Lists the entries it was given, whatever is stored."""

    def __init__(self, *entries: Entry) -> None:
        super().__init__()
        self.stored |= {entry.key: b"" for entry in entries if entry.key is not None}
        self._given = entries

    def _entries(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002
        return iter(self._given)
