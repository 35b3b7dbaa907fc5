"""One plot per question that people ask first: which tools fail, where the time goes, which sessions use the tokens."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from persistkit.agents.readers import read_sessions, store_of
from persistkit.agents.tables import sessions_frame, steps_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from persistkit.transfer import Place

__all__ = ["plot_time", "plot_tokens", "plot_tools"]

_MOST_BARS: Final = 15
_LONGEST: Final = 36
# A ground of its own: letters of one colour cannot be read on a light and on a dark page.
_GROUND: Final = "white"
_TEXT: Final[Any] = {"color": "#333333", "parse_math": False}  # names of tools may hold dollars
_MAIN: Final = "#9db8d9"
_DARK: Final = "#3f6aa3"
_MARKED: Final = "#b3261e"


class _Bar(NamedTuple):
    name: str
    order: float  # the largest is drawn first
    parts: dict[str, float]  # color -> length
    label: str


def plot_tools(place: Place) -> Axes:
    """Draw the calls of each tool, those that failed first; the title says which tool fails most often."""
    calls = steps_frame(place).dropna(subset="tool")
    total = Counter(calls["tool"])
    failed = Counter(calls.loc[calls["ok"].eq(False).fillna(False), "tool"])
    bars = [
        _Bar(
            tool,
            failed[tool] / n,
            {_MARKED: failed[tool], _MAIN: n - failed[tool]},
            f"{failed[tool]:,} of {n:,} failed ({failed[tool] / n:.0%})" if failed[tool] else f"{n:,}",
        )
        for tool, n in total.items()
    ]
    worst = max(bars, key=lambda bar: bar.order, default=None)
    if worst is None or not worst.order:
        return _draw(bars, f"No failure is stored in {len(calls):,} tool calls")
    return _draw(bars, f"{worst.name} fails most often: {failed[worst.name]:,} of {total[worst.name]:,} calls")


def plot_time(place: Place) -> Axes:
    """Draw how long the steps of each tool, node or role took together; the title says which took most.

    A step that called several tools stands for all of them together.
    """
    seconds: dict[str, float] = {}
    for session in read_sessions(store_of(place, "plot_time"), {}):
        for step in session.steps:
            tools = ", ".join(dict.fromkeys(call.tool or "?" for call in step.calls))
            role = step.messages[-1].role if step.messages else "no message"
            what = tools or step.name or role
            seconds[what] = seconds.get(what, 0.0) + (step.duration_ms or 0) / 1000
    total = sum(seconds.values())
    if not total:
        return _draw([], "No durations are stored")
    bars = [
        _Bar(what, took, {_MAIN: took}, f"{took:,.1f} s ({took / total:.0%})") for what, took in seconds.items() if took
    ]
    most = max(bars, key=lambda bar: bar.order)
    return _draw(bars, f"{most.name} takes most of the time: {most.order / total:.0%} of {total:,.1f} s")


def plot_tokens(place: Place) -> Axes:
    """Draw the tokens that the model read and wrote in each session; the title says which session used most."""
    sessions = sessions_frame(place)
    tokens = [sessions[name].fillna(0).astype(int) for name in ("input_tokens", "output_tokens")]
    bars = [
        _Bar(name, read + written, {_MAIN: read, _DARK: written}, f"{read:,} read, {written:,} written")
        for name, read, written in zip(sessions["session"], *tokens, strict=True)
        if read or written
    ]
    if not bars:
        return _draw([], "No tokens are stored")
    most, total = max(bars, key=lambda bar: bar.order), sum(bar.order for bar in bars)
    return _draw(bars, f"{_short(most.name)} used most: {most.order:,} of {total:,} tokens")


def _draw(bars: list[_Bar], title: str) -> Axes:
    import matplotlib.pyplot as plt

    shown = sorted(bars, key=lambda bar: (-bar.order, bar.name))[:_MOST_BARS]
    more = f" (the first {len(shown)} of {len(bars):,})" if len(shown) < len(bars) else ""
    # No rc_context: the first figure of a notebook sets up its backend, which that would undo.
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.34 * max(len(shown), 1)), layout="constrained")
    figure.set_facecolor(_GROUND)
    axes.set_facecolor(_GROUND)
    for row, bar in enumerate(shown):
        left = 0.0
        for color, length in bar.parts.items():
            axes.barh(row, length, left=left, color=color)
            left += length
        axes.text(left, row, f"  {bar.label}", va="center", **_TEXT)
    axes.set_title(title + more, loc="left", **_TEXT)
    axes.set_yticks(range(len(shown)), [_short(bar.name) for bar in shown], **_TEXT)
    axes.set_xticks([])
    axes.set_xlim(0, 1.5 * max([sum(bar.parts.values()) for bar in shown], default=1))
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    return axes


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
