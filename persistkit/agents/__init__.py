"""What agent runtimes leave behind, as tables and in a notebook."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

_HOMES: Final = {
    "diff_sessions": "comparing",
    "Timeline": "widget",
    "messages_frame": "tables",
    "plot_time": "plots",
    "plot_tokens": "plots",
    "plot_tools": "plots",
    "redundant_keys": "rust",
    "runtime_of": "readers",
    "sessions_frame": "tables",
    "state_of": "readers",
    "steps_frame": "tables",
    "timeline": "widget",
    "unfinished_frame": "tables",
}


def __getattr__(name: str) -> object:  # opening a store imports this package, and must not load pandas
    if name not in __all__:
        raise AttributeError(f"module 'persistkit.agents' has no attribute {name!r}; it offers {', '.join(__all__)}")
    home = import_module(f"persistkit.agents.{_HOMES.get(name, name)}")
    return getattr(home, name) if name in _HOMES else home


def __dir__() -> list[str]:  # Tab is to show what is not loaded yet
    return __all__
