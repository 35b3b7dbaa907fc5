"""The timeline in a real JupyterLab: two views, the keyboard, themes, and what a model might inject."""

from __future__ import annotations

import pytest
from lab import Notebook, poor_contrast
from playwright.sync_api import Locator, expect

pytest_plugins = ["lab_fixtures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CELLS = [
    """
import persistkit
from persistkit import agents
script = "<img src=x onerror='window.hacked = 1'>"
ok, failed = '{"data": {"n": 1}, "ok": true}', '{"error": "timed out", "kind": "transient", "ok": false}'
def step(*values): return dict(zip(("thought", "action", "observation", "step_duration_ms"), values))
store = persistkit.open("memory:")
store["loop:run:step:4"] = [
    step(script, 'search {"query": "berlin"}', ok, 100), step("Again.", 'search {"query": "rome"}', failed, 900),
    step("Read it.", 'read {"path": "' + script + '"}', ok, 20), step("Done.", "FINAL_ANSWER " + script, "", 5)]
""",
    "run = agents.timeline(store, 'run'); run",
    "run",
    "run.step = 0",
    "import ipywidgets\nlabel = ipywidgets.Label()\n"
    "ipywidgets.dlink((run, 'step'), (label, 'value'), lambda step: f'Python: {step}'); label",
]


@pytest.fixture
def timeline(notebook: Notebook) -> Locator:
    """The first view, its first step drawn."""
    notebook.run(1)
    notebook.run(3)
    widget = notebook.cell(1).locator(".pk-run")
    expect(widget.locator(".pk-said")).to_contain_text("berlin")
    return widget


def test_the_arrow_keys_go_through_the_run(notebook: Notebook, timeline: Locator) -> None:
    """Left, right, Home, End and "e" move; no key reaches JupyterLab, and Python knows the step."""
    cells = notebook.cells()
    timeline.locator(".pk-strip").focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(timeline.locator(".pk-said")).to_contain_text("timed out")
    expect(timeline.locator(".pk-outcome")).to_have_text("failed (transient)")
    notebook.page.keyboard.press("End")
    expect(timeline.locator(".pk-place")).to_have_text("Step 4 of 4")
    for key in ("e", "b", "x", "d", "d"):  # JupyterLab's keys for adding, cutting and deleting cells
        notebook.page.keyboard.press(key)
    expect(timeline.locator(".pk-place")).to_have_text("Step 2 of 4")
    notebook.run(4)
    expect(notebook.cell(4).locator(".widget-label")).to_have_text("Python: 1")  # it may come late
    assert notebook.cells() == cells


def test_two_views_show_the_same_step(notebook: Notebook, timeline: Locator) -> None:
    """A step chosen in one view, or in Python, is shown in both."""
    notebook.run(2)
    second = notebook.cell(2).locator(".pk-run")
    second.locator(".pk-step").nth(2).click()
    for view in (timeline, second):
        expect(view.locator(".pk-step[aria-selected=true] .pk-what")).to_have_text("read")
        expect(view.locator(".pk-said")).to_contain_text("Read it.")
    notebook.run(3)
    for view in (timeline, second):
        expect(view.locator(".pk-place")).to_have_text("Step 1 of 4")


def test_what_a_model_said_is_text(notebook: Notebook, timeline: Locator) -> None:
    """Markup in thoughts, arguments and answers is shown, and makes no element."""
    expect(timeline.locator(".pk-said")).to_contain_text("<img src=x")
    timeline.locator(".pk-step").nth(3).click()
    expect(timeline.locator(".pk-text").last).to_contain_text("<img src=x")
    assert timeline.locator("img").count() == 0
    assert notebook.page.evaluate("() => window.hacked") is None


def test_it_is_readable_in_both_themes(notebook: Notebook, timeline: Locator) -> None:
    """The text of every part stands out from what is behind it: 4.5 to 1."""
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        notebook.theme(theme)
        assert poor_contrast(timeline) == [], theme
    notebook.theme("JupyterLab Light")
