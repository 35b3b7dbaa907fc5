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
    "comparing": ("diff_sessions",),
    "plots": ("plot_time", "plot_tokens", "plot_tools"),
    "readers": ("runtime_of", "state_of"),
    "rust": ("redundant_keys",),
    "tables": ("messages_frame", "sessions_frame", "steps_frame", "unfinished_frame"),
    "widget": ("Timeline", "timeline"),
}


def __getattr__(name: str) -> object:  # opening a store imports this package, and must not load pandas
    if name not in __all__:
        raise AttributeError(f"module 'persistkit.agents' has no attribute {name!r}; it offers {', '.join(__all__)}")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    module = import_module(f"persistkit.agents.{home or name}")
    return module if home is None else getattr(module, name)


def __dir__() -> list[str]:  # Tab is to show what is not loaded yet
    return __all__
