"""Report: the same figures as a table and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contenders import PERSISTKIT, YARDSTICK
from rounds import OPERATIONS, Block

__all__ = ["plot", "tables"]

_PANELS = (
    ("batches", "batch_save", "batch_load"),
    ("one by one, no await", "save", "load"),
    ("one by one, awaited", "await save", "await load"),
)
_COLOURS = {PERSISTKIT: "#1fa37a", YARDSTICK: "#3b8fd6"}
_COLOUR_OF_PEERS = "#8a929b"
_DARK = "#0d1117"


def tables(blocks: Sequence[Block], *, markdown: bool) -> str:
    """Return every block as a table of medians, each with its ratio to the yardstick."""
    parts = []
    for block in blocks:
        columns = _operations(block)
        rows = [[name, *(_cell(block, name, column) for column in columns)] for name in block.samples]
        heading = f"{block.title} ({block.unit}; in brackets the ratio to the yardstick)"
        parts.append(_table(heading, ["", *columns], rows, markdown=markdown))
    return "\n\n".join(parts)


def plot(path: Path, blocks: Sequence[Block]) -> None:
    """Draw one row per setting: bars of microseconds per item for batches, single operations, and awaited ones.

    A second picture beside it, ``<stem>-dark``, is for a dark page.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with pyplot.style.context("default"):
        _plot(pyplot, path, blocks)
    with pyplot.style.context(["dark_background", {"figure.facecolor": _DARK, "axes.facecolor": _DARK}]):
        _plot(pyplot, path.with_stem(f"{path.stem}-dark"), blocks)


def _plot(pyplot: Any, path: Path, blocks: Sequence[Block]) -> None:
    drawn = [block for block in blocks if block.kind == "operations"]
    names = list(dict.fromkeys(name for block in drawn for name in block.samples))
    figure = pyplot.figure(figsize=(11, (0.5 * len(names) + 1.2) * len(drawn)), layout="constrained")
    for part, block in zip(figure.subfigures(len(drawn), squeeze=False)[:, 0], drawn, strict=True):
        part.set_facecolor("none")
        part.suptitle(f"{block.title}: {block.unit}, less is better", fontsize=11)
        for panel, (title, save, load) in zip(part.subplots(1, len(_PANELS)), _PANELS, strict=True):
            panel.set_title(title, fontsize=11)
            _draw(panel, block, save, load)
    # What the picture shows, in words, for those who cannot look at it.
    figure.savefig(path, dpi=144, format="png", metadata={"Description": ", ".join(sorted(names))})
    pyplot.close(figure)


def _draw(panel: Any, block: Block, save: str, load: str) -> None:  # matplotlib's stubs type axes as Any in arrays
    names = [name for name in block.samples if _shown(block, name, save)]
    names.sort(key=lambda name: _shown(block, name, save) + _shown(block, name, load))
    for operation, offset, strength in ((save, -0.2, 1.0), (load, 0.2, 0.5)):
        bars = panel.barh(
            [row + offset for row in range(len(names))],
            [_shown(block, name, operation) for name in names],
            height=0.38,
            color=[_COLOURS.get(name, _COLOUR_OF_PEERS) for name in names],
            alpha=strength,
        )
        panel.bar_label(bars, fmt=f"{{:,.0f}} {operation.rpartition(' ')[2].rpartition('_')[2]}", padding=3, fontsize=8)
    panel.set_yticks(range(len(names)), names)
    for label in panel.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == PERSISTKIT else "normal")
    panel.invert_yaxis()
    panel.margins(x=0.25)
    panel.tick_params(axis="y", length=0)
    panel.get_xaxis().set_visible(False)
    panel.spines[["top", "right", "bottom"]].set_visible(False)


def _shown(block: Block, name: str, operation: str) -> float:
    if name == YARDSTICK:  # its batches are its single operations
        operation = operation.removeprefix("batch_")
    return block.median(name, operation) or 0.0


def _operations(block: Block) -> list[str]:
    measured = dict.fromkeys(operation for cells in block.samples.values() for operation in cells)
    ordered = [operation for operation in OPERATIONS if operation in measured]
    return [*ordered, *(operation for operation in measured if operation not in ordered)]


def _cell(block: Block, name: str, operation: str) -> str:
    found, ratio = block.median(name, operation), block.ratio(name, operation)
    if found is None:
        return ""
    figure = f"{found:,.1f}"
    return figure if ratio is None else f"{figure} ({ratio:.2f})"


def _table(heading: str, columns: list[str], rows: list[list[str]], *, markdown: bool) -> str:
    widths = [max(len(row[place]) for row in [columns, *rows]) for place in range(len(columns))]

    def line(cells: list[str]) -> str:
        padded = [
            cells[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    if markdown:
        rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
        return "\n".join([f"**{heading}**", "", line(columns), rule, *map(line, rows)])
    return "\n".join([heading, line(columns), *map(line, rows)])
