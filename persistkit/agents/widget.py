"""Timeline: one run of an agent in a notebook, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from json import dumps
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import traitlets as t

from persistkit.agents.readers import read_session, state_of, store_of
from persistkit.agents.records import Message, Session, Step, total_tokens
from persistkit.browser.page_widget import Answer, PageWidget, joined
from persistkit.diff import diff_values
from persistkit.text import human_time, visible

if TYPE_CHECKING:
    from persistkit.transfer import Place

__all__ = ["Timeline", "timeline"]

_MOST_STEPS: Final = 5_000
_MOST_TEXT: Final = 20_000
_MOST_CELL: Final = 400
_MOST_CHANGES: Final = 100
_STATIC_STEPS: Final = 50
_LABEL: Final = 120
_ONE_LINE: Final = 80
_OUTCOMES: Final[dict[bool | None, str]] = {True: "succeeded", False: "failed"}
_NAMES: Final = {"rust": "Rust agent runtime", "langgraph": "LangGraph", "openai": "OpenAI Agents SDK"}

Data = dict[str, Any]  # JSON to the page


def timeline(place: Place, session: str | None = None, *, height: int = 380) -> Timeline:
    """Return one run, step by step, for display in a notebook; the arguments are those of ``Timeline``."""
    return Timeline(place, session, height=height)


class Timeline(PageWidget):
    """One run of an agent, to scrub through step by step: what was said, thought, called, answered, and what changed.

    The arrow keys, Home and End go through the steps, "e" to the next failure. A notebook saved with it keeps an
    excerpt of each step, and no state.

    Attributes:
        step: position of the step that is shown, from 0 on; observe it, or set it to show another.
        session: the run as it was read: ``timeline.session.steps[timeline.step]``.
        height: of the steps in the page, in pixels.

    Args:
        place: a store, an engine or a backend that holds what an agent runtime stored.
        session: the id of the run; the one that ended last by default.
        height: of the steps, in pixels.

    Raises:
        TypeError: ``place`` is nothing of the kind; the message never shows it.
        KeyError: there is no such session.
        FormatError: the session is damaged.
        ValueError: what is stored is of no runtime that is known.
        StorageError: the storage refused, is gone or did not answer.
    """

    _esm = joined("timeline.js", "core.js", "timeline_view.js")
    _css = joined("base.css", "timeline.css")

    step = t.Int(0).tag(sync=True)
    _run = t.Dict().tag(sync=True)  # a line for each step: what stored widget state shows where no kernel answers

    def __init__(self, place: Place, session: str | None = None, *, height: int = 380) -> None:
        self._store = store_of(place, "timeline")
        self.session: Session = read_session(self._store, session)
        requests = {"step": self._shown, "changes": self._changes, "refresh": self._refresh}
        super().__init__(requests, height=height, _run=_run_of(self.session))

    def __repr__(self) -> str:
        return f"Timeline({self.session.id!r}: {_summary(self.session)})"

    @t.validate("step")
    def _within(self, proposal: Data) -> int:
        return max(0, min(int(proposal["value"]), len(self.session.steps) - 1))

    def _refresh(self, _request: Data) -> Answer:
        try:
            self.session = read_session(self._store, self.session.id)
        except KeyError as error:
            return {"error": visible(str(error.args[0]))}, []
        self._run = _run_of(self.session)
        return {}, []

    def _step_of(self, request: Data) -> Step:
        return self.session.steps[int(request["position"])]

    def _shown(self, request: Data) -> Answer:
        step, shown = self._step_of(request), request["position"] + 1
        facts = [
            (f"{_NAMES.get(self.session.runtime, '')} step", None if step.number == shown else str(step.number)),
            ("Node", step.name),
            ("Subgraph", step.namespace),
            ("Stored", f"{human_time(step.time)} UTC" if step.time else None),
            ("Duration", _duration(step.duration_ms)),
            ("Tokens", _tokens([step])),
        ]
        return {
            "position": request["position"],
            "facts": [(name, visible(value)) for name, value in facts if value],
            "error": None,
            "failure": None if step.error is None else _cut(step.error),
            "messages": [_message(message) for message in step.messages],
            "code": None if step.key is None else f"store[{step.key!r}]",
        }, []

    def _changes(self, request: Data) -> Answer:
        step = self._step_of(request)
        if step.key is None or self.session.runtime == "rust":  # whose state is the steps, which the page shows
            return {"position": request["position"], "changes": None, "note": ""}, []
        before = {} if step.before is None else state_of(self._store, step.before)
        diff = diff_values(before, state_of(self._store, step.key))
        # Messages last: the page shows them anyway.
        found = sorted(diff.itertuples(index=False, name=None), key=lambda row: row[0].startswith("$.messages"))
        rows = [
            [visible(path), _cell(left), _cell(right), change.partition(" ")[0]]
            for path, left, right, change in found[:_MOST_CHANGES]
        ]
        more = len(diff) - len(rows)
        notes = [*diff.notes, *([f"… and {more:,} more"] if more > 0 else [])]
        return {"position": request["position"], "changes": rows, "note": visible(" ".join(notes))}, []

    def _static_html(self) -> str:
        return _static(self._run, repr(self))


def _run_of(session: Session) -> Data:
    steps = [_line(step) for step in session.steps[:_MOST_STEPS]]
    rest = len(session.steps) - len(steps)
    return {
        "title": visible(session.id),
        "runtime": _NAMES.get(session.runtime, session.runtime),
        "agent": visible(session.agent or ""),
        "status": session.status,
        "reason": visible(session.reason or ""),
        "summary": _summary(session),
        "steps": steps,
        "note": f"The first {len(steps):,} steps; {rest:,} more are in timeline.session.steps." if rest > 0 else "",
    }


def _line(step: Step) -> Data:
    """Return what the list of steps shows of one."""
    calls = step.calls
    errors = [step.error, *(call.error or ("failed" if call.ok is False else None) for call in calls)]
    error = next((error for error in errors if error is not None), None)
    said = next((message for message in reversed(step.messages) if message.text), None)
    if calls:
        kind, label = "tool", ", ".join(call.tool or "?" for call in calls)
        text = "; ".join(_json(call.result) if _answered(call) else "no answer" for call in calls)
    else:
        kind = said.role if said is not None else step.messages[-1].role if step.messages else "state"
        label = step.name or kind if kind == "state" else kind
        text = "" if said is None else said.text or ""
    return {
        "kind": kind if kind in ("user", "assistant", "tool", "reasoning", "system") else "state",
        "failed": error is not None,
        "label": _excerpt(label),
        "text": _excerpt(error or text),
        "ms": step.duration_ms,
        "duration": _duration(step.duration_ms),
    }


def _message(message: Message) -> Data:
    data = {
        "role": visible(message.role),
        "text": None if message.text is None else _cut(message.text),
        "data": None if message.data is None else _pretty(message.data),
    }
    if message.role == "tool":
        done = _answered(message)
        data |= {
            "tool": visible(message.tool or "?"),
            "arguments": _pretty(message.arguments),
            "result": None if message.error is not None or not done else _pretty(message.result),
            "failure": None if message.error is None else _cut(message.error),
            "kind": visible(message.error_kind or ""),
            "outcome": _OUTCOMES.get(message.ok, "answered" if done else "no answer"),
        }
    return data


def _answered(call: Message) -> bool:
    return call.ok is not None or call.error is not None or call.result is not None


def _summary(session: Session) -> str:
    counts = [(len(session.steps), "step"), (len(session.calls), "tool call"), (session.errors, "failure")]
    parts = [f"{n:,} {name}{'' if n == 1 else 's'}" for n, name in counts if n or name == "step"]
    return ", ".join([*parts, *filter(None, [_duration(session.duration_ms), _tokens(session.steps)])])


def _tokens(steps: Iterable[Step]) -> str:
    read, written = total_tokens(steps)
    return f"{read or 0:,} tokens in, {written or 0:,} out" if read or written else ""


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:,.0f} min {seconds % 60:.0f} s"


def _excerpt(text: str) -> str:
    return visible(" ".join(text[: 2 * _LABEL].split())[:_LABEL])


def _pretty(value: Any) -> str:
    line = _json(value)
    return _cut(line if len(line) <= _ONE_LINE else _json(value, indent=2))


def _json(value: Any, indent: int | None = None) -> str:
    """Return text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    try:
        return dumps(value, ensure_ascii=False, indent=indent, default=repr)
    except (RecursionError, TypeError, ValueError):
        return f"({type(value).__name__} that is no JSON, or nested too deeply)"


def _cut(text: str) -> str:
    rest = len(text) - _MOST_TEXT
    return visible(text[:_MOST_TEXT], lines=True) + (f"\n… {rest:,} more characters" if rest > 0 else "")


def _cell(value: Any) -> str:
    text = "" if value is pd.NA else _json(value)
    return visible(text[:_MOST_CELL]) + ("…" if len(text) > _MOST_CELL else "")


def _static(run: Data, summary: str) -> str:
    """Return the steps as HTML that needs no script and no style sheet; everything stored is escaped."""
    cell = '<td style="padding:2px 12px 2px 0;text-align:left;vertical-align:top">'
    rows = "".join(
        f"<tr>{cell}{n}</td>{cell}<b>{escape(line['label'])}</b>{' (failed)' if line['failed'] else ''}</td>"
        f"{cell}{escape(line['text'])}</td>{cell}{line['duration']}</td></tr>"
        for n, line in enumerate(run["steps"][:_STATIC_STEPS], 1)
    )
    rest = len(run["steps"]) - _STATIC_STEPS
    more = f"… and {rest:,} more: run" if rest > 0 else "Run"
    return f"<div><p>{escape(summary)}</p><table>{rows}</table><p>{more} the cell to go through them.</p></div>"
