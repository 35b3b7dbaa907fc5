"""Report: the same figures as a table, as JSON and as a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rounds import OPERATIONS, Block
from targets import Target

__all__ = ["plot", "tables", "targets_table", "write_json"]

_PACKAGES = ("aiofiles", "anyio", "diskcache", "numpy", "obstore", "pandas", "py-key-value-aio", "zarr")
_PLOTTED = OPERATIONS[:6]
_COLUMNS_OF_PANELS = 2
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


def targets_table(targets: Sequence[Target], *, markdown: bool) -> str:
    """Return the targets as a table: what was measured, what was wanted, met or missed."""
    rows = [
        [
            target.statement,
            f"{target.measured:.2f} {target.unit}",
            f"{'at most' if target.at_most else 'at least'} {target.bound:g} {target.unit}",
            target.verdict,
        ]
        for target in targets
    ]
    return _table("targets", ["", "measured", "wanted", ""], rows, markdown=markdown)


def write_json(path: Path, blocks: Sequence[Block], targets: Sequence[Target]) -> None:
    """Write every sample, median and ratio, with what they were measured on."""
    document = {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "packages": {name: version(name) for name in _PACKAGES},
        },
        "blocks": [_block(block) for block in blocks],
        "targets": [{**asdict(target), "met": target.met} for target in targets],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(path: Path, blocks: Sequence[Block]) -> None:
    """Draw a panel a setting: contenders downwards, microseconds an item on a logarithmic axis.

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
    height = -(-len(drawn) // _COLUMNS_OF_PANELS)
    figure, panels = pyplot.subplots(
        height,
        min(len(drawn), _COLUMNS_OF_PANELS),
        figsize=(5.2 * min(len(drawn), _COLUMNS_OF_PANELS), 2.9 * height + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for panel, block in zip(panels.flat, drawn, strict=False):
        _draw(panel, block)
    for panel in panels.flat[len(drawn) :]:
        panel.remove()
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    names = {label.get_text() for panel in figure.axes for label in panel.get_yticklabels()}
    # What the picture shows, in words, for those who cannot look at it.
    figure.savefig(path, dpi=144, format="png", metadata={"Description": ", ".join(sorted(names))})
    pyplot.close(figure)


def _draw(panel: Any, block: Block) -> None:  # matplotlib's axes: its stubs type them as Any in arrays
    names = list(block.samples)
    colours = {"save": "#3b8fd6", "load": "#3b8fd6", "await save": "#d8692b", "await load": "#d8692b"}
    for operation in _PLOTTED:
        spots = [(block.median(name, operation), row) for row, name in enumerate(names)]
        shown = [(found, row) for found, row in spots if found is not None]
        colour = colours.get(operation, "#1fa37a")
        saves = operation.endswith("save")
        panel.plot(
            [found for found, _ in shown],
            [row for _, row in shown],
            linestyle="none",
            marker="o" if saves else "D",
            markersize=6,
            color=colour,
            markerfacecolor=colour if saves else panel.get_facecolor(),
            label=operation,
        )
    panel.set_xscale("log")
    panel.set_yticks(range(len(names)), names)
    panel.invert_yaxis()
    panel.grid(axis="x", which="major", color="#8888", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.set_title(block.title, fontsize=9)
    panel.set_xlabel(block.unit, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)


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


def _block(block: Block) -> dict[str, object]:
    results = [
        {
            "contender": name,
            "operation": operation,
            "median": block.median(name, operation),
            "ratio": block.ratio(name, operation),
            "samples": samples,
        }
        for name, cells in block.samples.items()
        for operation, samples in cells.items()
    ]
    setting = None if block.setting is None else asdict(block.setting)
    return {"kind": block.kind, "title": block.title, "unit": block.unit, "setting": setting, "results": results}


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
