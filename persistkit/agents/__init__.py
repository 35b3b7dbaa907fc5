"""What agent runtimes leave behind, as tables and in a notebook."""

from __future__ import annotations

from persistkit.agents import records, rust
from persistkit.agents.comparing import diff_sessions
from persistkit.agents.plots import plot_time, plot_tokens, plot_tools
from persistkit.agents.readers import runtime_of, state_of
from persistkit.agents.rust import redundant_keys
from persistkit.agents.tables import messages_frame, sessions_frame, steps_frame, unfinished_frame
from persistkit.agents.widget import Timeline, timeline

__all__ = [
    "Timeline",
    "diff_sessions",
    "messages_frame",
    "plot_time",
    "plot_tokens",
    "plot_tools",
    "records",
    "redundant_keys",
    "runtime_of",
    "rust",
    "sessions_frame",
    "state_of",
    "steps_frame",
    "timeline",
    "unfinished_frame",
]
