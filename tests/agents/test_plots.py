"""The plots: what their titles and labels say is what is stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import persistkit
from persistkit import Store, agents


@pytest.fixture(autouse=True)
def drawn_nowhere() -> Iterator[None]:
    """Nothing is drawn on a screen, and no figure stays."""
    mpl.use("agg")
    yield
    plt.close("all")


def test_the_tool_that_fails_most_often_is_named(sample: Store) -> None:
    """Calls and failures are those of the raw JSON, of finished and unfinished runs."""
    calls: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    runs = [sample[key]["steps"] for key in sample if key.startswith("session:") and ":step:" not in key]
    runs += [sample[key] for key in agents.unfinished_frame(sample)["last_key"]]
    for step in [step for run in runs for step in run]:
        tool = step["action"].partition(" ")[0]
        if tool != "FINAL_ANSWER":
            calls[tool] += 1
            failed[tool] += not json.loads(step["observation"])["ok"]
    worst = max(calls, key=lambda tool: failed[tool] / calls[tool])
    axes = agents.plot_tools(sample)
    assert axes.get_title(loc="left") == f"{worst} fails most often: {failed[worst]} of {calls[worst]} calls"
    assert axes.texts[0].get_text().strip().startswith(f"{failed[worst]} of {calls[worst]} failed")
    assert len(axes.texts) == len(calls)


def test_the_time_is_that_of_the_steps(sample: Store) -> None:
    """The parts make the whole, which is the sum of all durations."""
    axes = agents.plot_time(sample)
    total = agents.steps_frame(sample)["duration_ms"].sum() / 1000
    assert axes.get_title(loc="left").endswith(f"of {total:,.1f} s")
    assert sum(bar.get_extents().transformed(axes.transData.inverted()).width for bar in axes.patches) == pytest.approx(
        total
    )


def test_what_is_not_stored_is_said(sample: Store) -> None:
    """A store without tokens, and one without anything, are no error."""
    assert agents.plot_tokens(sample).get_title(loc="left") == "No tokens are stored"
    empty = persistkit.open("memory:")
    titles = [plot(empty).get_title(loc="left") for plot in (agents.plot_tools, agents.plot_time, agents.plot_tokens)]
    assert titles == ["No failure is stored in 0 tool calls", "No durations are stored", "No tokens are stored"]
