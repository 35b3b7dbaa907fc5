"""ReadOnlyEngine: another engine with its writes refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

from persistkit.engines.prefix import EngineView
from persistkit.errors import ReadOnlyError

__all__ = ["ReadOnlyEngine", "refusal"]


def refusal(tried: str, place: str) -> ReadOnlyError:
    """Return the error that says what was tried on what was opened read only."""
    return ReadOnlyError(
        f"{tried}: {place} was opened read only; to write, open it without read_only=True, or, where it is another "
        "program's, copy it first: store.copy_to(...)"
    )


def _refused(tried: str) -> Callable[..., Never]:
    """Return a method that refuses to write; ``tried`` may name its first argument."""

    def refuse(self: ReadOnlyEngine, first: object, *_: object) -> Never:
        raise refusal(tried.format(first), repr(self.engine))

    return refuse


class ReadOnlyEngine(EngineView):
    """Reads go to the engine it holds; every write raises ``ReadOnlyError`` before any I/O."""

    def __repr__(self) -> str:
        return f"ReadOnlyEngine({self.engine!r})"

    _save = _refused("save {!r}")
    _batch_save = _refused("save a batch")
    _delete = _refused("delete {!r}")
    _batch_delete = _refused("delete a batch")
    _delete_unchanged = _refused("delete a batch")
    _add = _refused("add {!r}")
    _replace = _refused("replace {!r}")
    _rename = _refused("rename {!r}")
    _lock_attempts = _refused("lock {!r}")
    _open_writer = _refused("open {!r} for writing")

    def check(self, *, repair: bool = False) -> list[Any]:
        """Look for problems, where the engine can; repairing them is refused. Any: the engine's own findings."""
        if repair:
            raise refusal("check with repair=True", repr(self.engine))
        findings: list[Any] = self.engine.check()  # type: ignore[attr-defined]  # engines that have one
        return findings
