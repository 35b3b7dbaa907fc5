"""Listing: the index of an engine, made in a background thread and made again when asked."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

from persistkit.browser.index import IndexBuilder, KeyIndex
from persistkit.engine import Engine
from persistkit.errors import PersistenceError
from persistkit.selection import Selection

__all__ = ["Listing", "Snapshot"]

_EARLY_SECONDS: Final = 0.5
_EXIT_SECONDS: Final = 2.0
_listings: Final[WeakSet[Listing]] = WeakSet()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a listing found.

    Attributes:
        index: every entry; while the first listing goes on, those found so far.
        revision: grows by one with each snapshot; 0 before the first.
        token: the engine's change token when the listing began, None where it has none.
    """

    index: KeyIndex
    revision: int
    token: object | None


class Listing:
    """Lists the selected keys of an engine beside the running cell; the last snapshot stays while one is made."""

    def __init__(self, engine: Engine, selection: Selection, on_snapshot: Callable[[], None]) -> None:
        self._engine = engine
        self._selection = selection
        self._on_snapshot = on_snapshot
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False
        self.snapshot = Snapshot(KeyIndex.of([]), 0, None)
        self.error: str | None = None
        self.listed = 0

    @property
    def running(self) -> bool:
        """Whether a listing is going on."""
        return not self._idle.is_set()

    def start(self) -> None:
        """List again in the background, at once where no thread can be started; nothing when a listing goes on."""
        with self._lock:
            if self.running or self._closed:
                return
            self.listed, self.error = 0, None
            self._idle.clear()
        _listings.add(self)
        if not _started(self._run):
            self._run()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until no listing is going on; tell whether that came in time."""
        return self._idle.wait(timeout_seconds)

    def close(self) -> None:
        """Stop a listing that is going on, and start no other."""
        self._closed = True

    def _run(self) -> None:
        try:
            self._list()
        except (PersistenceError, OSError) as error:
            self.error = str(error)
        except BaseException as error:
            # The page is the only one to see what ends this thread: say it there, then let it go its way.
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._idle.set()
            if not self._closed:
                self._on_snapshot()

    def _list(self) -> None:
        # Before the listing: a change made during it must count as a change.
        token = self._engine.change_token()
        builder, finished = IndexBuilder(), threading.Event()
        if not self.snapshot.revision:
            _started(self._show_early, builder, token, finished)
        try:
            for entry in self._selection.entries(self._engine):
                if self._closed:
                    return
                builder.add(entry)
                self.listed = len(builder)
                if self.listed % 4096 == 0:
                    time.sleep(0)  # lets a running cell and the page's requests have the interpreter
        finally:
            with self._lock:
                finished.set()
        index = builder.finish()
        if token is None and self.snapshot.revision and index.same_as(self.snapshot.index):
            return  # listed again only to see whether something changed
        self.snapshot = Snapshot(index, self.snapshot.revision + 1, token)

    def _show_early(self, builder: IndexBuilder, token: object | None, finished: threading.Event) -> None:
        """Show what a long first listing has found, after half a second and then ever more rarely."""
        seconds = _EARLY_SECONDS
        while not finished.wait(seconds):
            seconds *= 2
            index = builder.finish()
            with self._lock:
                if finished.is_set() or len(index) == len(self.snapshot.index):
                    continue
                self.snapshot = Snapshot(index, self.snapshot.revision + 1, token)
            if not self._closed:
                self._on_snapshot()


def _started(work: Callable[..., None], *arguments: object) -> bool:
    """Start a thread; tell whether there is one, for WebAssembly has none."""
    try:
        threading.Thread(target=work, args=arguments, name="persistkit-listing", daemon=True).start()
    except RuntimeError:
        return False
    return True


@atexit.register
def _close_all() -> None:
    # Python ends its daemon threads where they are, and a thread that is inside of NumPy then may abort the process.
    for listing in list(_listings):
        listing.close()
    for listing in list(_listings):
        listing.wait(_EXIT_SECONDS)
