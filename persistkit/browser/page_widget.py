"""PageWidget: what every widget of ours is; files of a page, and an answer to each of its requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anywidget
import traitlets as t

from persistkit.errors import PersistenceError
from persistkit.text import visible

__all__ = ["Answer", "Message", "PageWidget", "joined"]

_NOT_A_REQUEST: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    t.TraitError,
)

Message = dict[str, Any]  # JSON to and from the page
Answer = tuple[Message, list[bytes]]


def joined(*names: str) -> str:
    """Return files of the page as one, without comments and needless spaces: they travel with every widget."""
    folder = Path(__file__).with_name("page")
    lines = [line.strip() for name in names for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    text = "\n".join(line.partition(" // ")[0] for line in lines if line and not line.startswith(("//", "/*")))
    return re.sub(" ?([{};,]) ?|(?<=:) ", r"\1", text) if names[0].endswith(".css") else text


class PageWidget(anywidget.AnyWidget):
    """A widget whose page sends requests: messages with an ``op``, each answered once, in order.

    Attributes:
        height: of the widget in the page, in pixels.

    Args:
        requests: what answers each ``op``.
        traits: first values.
    """

    height = t.Int().tag(sync=True)
    _ipython_display_ = None  # by which ipywidgets 7 would show itself, and leave out what a saved notebook shows

    def __init__(self, requests: dict[str, Callable[[Message], Answer]], **traits: Any) -> None:
        super().__init__(**traits)
        self._lock = threading.RLock()
        self._asking: int | None = None  # the view whose request is being answered
        self._requests = requests
        self.on_msg(self._receive)

    def handle(self, request: Message) -> Answer:
        """Answer one request of the page: a message and its buffers. What goes wrong becomes the answer's ``error``."""
        with self._lock:
            self._asking = request.get("view")
            try:
                operation = self._requests[request["op"]]
                answer, buffers = operation(request)
            except (PersistenceError, OSError) as error:
                answer, buffers = {"error": visible(str(error))}, []
            except _NOT_A_REQUEST as error:
                answer, buffers = {"error": f"not a request: {visible(str(error))[:200]}"}, []
            finally:
                self._asking = None
        return {**answer, "op": request.get("op"), "view": request.get("view"), "id": request.get("id")}, buffers

    def _static_html(self) -> str:
        """Return what is shown where no kernel is: no script, no style sheet, everything stored escaped."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> Any:
        static = {"text/html": self._static_html(), "text/plain": repr(self)}
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, **static}, metadata

    @t.observe("comm")
    def _answer_beside_cells(self, _change: object) -> None:
        # Without this ipykernel 7.4 lets the page wait for the running cell, once a cell or the listing sent anything.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = None

    def _receive(self, _widget: object, content: object, _buffers: object) -> None:
        if isinstance(content, dict):
            with self._lock:  # sent in the order they were made: a page takes the newest for the truth
                self.send(*self.handle(content))
