"""Moving: values get other keys, one by one, none is lost on the way and none is written over."""

from __future__ import annotations

from collections.abc import Callable

from persistkit.arguments import check_key, check_prefix
from persistkit.engine import Engine
from persistkit.errors import PersistenceError
from persistkit.progress import Progress

__all__ = ["move", "rename"]


def rename(engine: Engine, old: str, new: str, missing: Callable[[str], Exception]) -> None:
    """Move the value of ``old`` to ``new``: see ``Store.rename``."""
    check_key(new)
    if not engine.exists(old):
        raise missing(old)
    if old != new and not engine.rename(old, new):
        _finish(engine, old, new)


def move(engine: Engine, old: str, new: str, *, progress: bool = True) -> int:
    """Move all values below one prefix to another: see ``Store.move``."""
    check_prefix(new)
    listed = engine.list_keys(old)
    # What is where it is to go stays: so "a/" to "a/b/" can be done again after an interrupt.
    targets = {key: new + key.removeprefix(old) for key in listed if not (new.startswith(old) and key.startswith(new))}
    for target in targets.values():
        check_key(target)
    for key, target in targets.items():
        if target in targets:
            raise PersistenceError(
                f"move {key!r} to {target!r}: that one is to be moved too; go by way of a prefix that nothing else has"
            )
    there = engine.existing(targets.values())
    taken = [key for key, target in targets.items() if target in there and engine.load(key) != engine.load(target)]
    if taken:
        raise _taken(engine, taken[0], targets[taken[0]], f" (the first of {len(taken):,} such keys)")
    with Progress(len(targets), "moving", shown=progress) as bar:
        for key, target in targets.items():
            if not engine.rename(key, target) and engine.exists(key):
                _finish(engine, key, target)
            bar.done(1)
    return len(targets)


def _finish(engine: Engine, old: str, new: str) -> None:
    """Remove the old one of two equal values, which an interrupted rename leaves; refuse if they are not equal."""
    seen = [entry for entry in engine.entries(old) if entry.key == old]
    if engine.load(old) != engine.load(new):
        raise _taken(engine, old, new)
    for key, reason in engine.delete_unchanged(seen).items():
        raise PersistenceError(f"rename {key!r} to {new!r}: {key!r} {reason}")


def _taken(engine: Engine, old: str, new: str, which: str = "") -> PersistenceError:
    return PersistenceError(
        f"rename {old!r} to {new!r}: {engine!r} has another value under {new!r}{which}; nothing was "
        "written; delete it first, or choose another key"
    )
