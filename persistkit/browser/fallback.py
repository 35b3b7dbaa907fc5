"""The browser where no kernel is: a table of the first rows, for saved notebooks, nbconvert and code hosts."""

from __future__ import annotations

from html import escape

from persistkit.browser.index import KeyIndex
from persistkit.text import human_size, human_time, label_of

__all__ = ["static_table"]

_ROWS = 20
_KEY_CHARACTERS = 120


def static_table(index: KeyIndex, summary: str) -> str:
    """Return the first rows as HTML that needs no script and no style sheet; keys are escaped."""
    cell = "padding:2px 12px 2px 0;text-align:"
    head = "".join(
        f'<th style="{cell}{side}">{name}</th>'
        for name, side in (("Key", "left"), ("Size", "right"), ("Modified (UTC)", "left"))
    )
    lines = []
    for row in range(min(len(index), _ROWS)):
        entry = index.entry(row)
        lines.append(
            f'<tr><td style="{cell}left"><code>{escape(label_of(entry, _KEY_CHARACTERS))}</code></td>'
            f'<td style="{cell}right" title="{entry.size:,} bytes">{human_size(entry.size)}</td>'
            f'<td style="{cell}left">{human_time(entry.modified)}</td></tr>'
        )
    rest = len(index) - len(lines)
    more = f"<p>… and {rest:,} more: run the cell to browse them.</p>" if rest > 0 else "<p>Run the cell to browse.</p>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>" if lines else ""
    return f"<div><p>{escape(summary)}</p>{table}{more}</div>"
