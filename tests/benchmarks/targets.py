"""Targets: what persistkit is meant to reach, as ratios of medians of one run, met or missed."""

from __future__ import annotations

from dataclasses import dataclass

from contenders import AIOFILES, PERSISTKIT, YARDSTICK
from rounds import OPERATIONS, Block

__all__ = ["Target", "targets_of"]

# How many times faster than aiofiles, call by call, the Rust reference does its batches: the mark to beat.
_RUST = {"batch_save": 9.7, "batch_load": 17.9}
_LISTING_LIMITS = {
    "one template": {"list_keys": 6.0, "to_frame": 12.0},
    "file paths": {"list_keys": 30.0, "to_frame": 40.0},
}


@dataclass(frozen=True, slots=True)
class Target:
    """One promise, its figure, and the bound that figure must keep; or, as a ``mark``, is only compared with."""

    statement: str
    measured: float
    bound: float
    at_most: bool
    unit: str = "x"
    mark: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure keeps its bound."""
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    @property
    def verdict(self) -> str:
        """The one word for it."""
        if self.mark:
            return "ahead" if self.met else "behind"
        return "met" if self.met else "MISSED"


def targets_of(blocks: list[Block]) -> list[Target]:
    """Return every target that ``blocks`` have the figures of."""
    found: list[Target] = []
    for block in blocks:
        setting = block.setting
        if setting is not None and (setting.where, setting.size_bytes, setting.fsync) == ("tmpfs", 1024, False):
            found += _against_the_loop(block) + _against_the_peers(block)
        elif block.kind == "import":
            ratio = block.ratio("persistkit", "import")
            found += [Target("import persistkit / import of its base", ratio, 1.5, at_most=True)] if ratio else []
        elif block.kind == "listing":
            found += _of_listings(block)
    return found


def _against_the_loop(block: Block) -> list[Target]:
    limits = {"batch_save": 1.4, "batch_load": 1.6, "save": 1.5, "load": 1.5}
    return [
        Target(f"{operation} / {YARDSTICK}", ratio, limit, at_most=True)
        for operation, limit in limits.items()
        if (ratio := block.ratio(PERSISTKIT, operation)) is not None
    ]


def _against_the_peers(block: Block) -> list[Target]:
    peers = [name for name in block.samples if name not in (YARDSTICK, PERSISTKIT)]
    wanted: list[tuple[str, str, float]] = []
    for operation in ("batch_save", "batch_load"):
        wanted += [(peer, operation, 2.5) for peer in ("obstore", "py-key-value", "zarr")]
        wanted += [("diskcache", operation, 1.0)]
    wanted += [(AIOFILES, operation, 2.5) for operation in ("await save", "await load")]
    wanted += [(peer, operation, 1.0) for operation in ("save", "load") for peer in peers]
    found = []
    for peer, operation, bound in wanted:
        theirs, ours = block.median(peer, operation), block.median(PERSISTKIT, operation)
        if theirs and ours:
            found.append(Target(f"{operation}: times faster than {peer}", theirs / ours, bound, at_most=False))
    for operation, mark in _RUST.items():
        theirs, ours = block.median(AIOFILES, operation), block.median(PERSISTKIT, operation)
        if theirs and ours:
            statement = f"{operation}: times faster than {AIOFILES}; the Rust reference"
            found.append(Target(statement, theirs / ours, mark, at_most=False, mark=True))
    return found


def _of_listings(block: Block) -> list[Target]:
    found = []
    for label in block.samples:
        limits = next(limits for name, limits in _LISTING_LIMITS.items() if label.startswith(name))
        for operation in OPERATIONS:
            measured = block.median(label, operation)
            if operation in limits and measured is not None:
                found.append(Target(f"{operation} of {label}", measured, limits[operation], at_most=True, unit="µs"))
    return found
