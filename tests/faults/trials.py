"""Trials: how often something was tried, and what it broke."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Trials:
    """How often something was tried, and one text for each time the promise was broken.

    Example:
        >>> trials = Trials()
        >>> trials.add()
        >>> trials.add("torn after call 3", "a temp file is left")
        >>> trials.count, trials.broken
        (2, 1)
    """

    count: int = 0
    broken: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, *violations: str) -> None:
        """Count one trial; with any violation it broke the promise."""
        self.count += 1
        self.broken += bool(violations)
        self.violations += violations

    def __iadd__(self, other: Trials) -> Trials:
        self.count += other.count
        self.broken += other.broken
        self.violations += other.violations
        return self
