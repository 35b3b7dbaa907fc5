"""marimo on a free loopback port, driven with Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from playwright.sync_api import Browser, Locator, Page

__all__ = ["MarimoPage"]

_PATIENCE_SECONDS = 150  # a loaded machine starts a server late
_SETTINGS = '[runtime]\nauto_instantiate = true\n\n[display]\ntheme = "{theme}"\n'


class MarimoPage:
    """One notebook in marimo's editor, run as it is opened; its settings are private."""

    def __init__(self, browser: Browser, folder: Path, cells: Sequence[str], theme: str = "light") -> None:
        self._home = Path(tempfile.mkdtemp(prefix="persistkit-marimo-"))
        (self._home / "marimo").mkdir()
        (self._home / "marimo" / "marimo.toml").write_text(_SETTINGS.format(theme=theme))
        notebook = folder / "notebook.py"
        notebook.write_text(_written(cells), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._notebook = notebook
        self._start()
        self._context = browser.new_context(viewport={"width": 1280, "height": 1200})
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{self._port}")

    def cell(self, index: int) -> Locator:
        """Return one cell."""
        return self.page.locator("marimo-island, .marimo-cell").nth(index)

    def restart(self) -> None:
        """End the server with its kernel, and run the notebook again in new ones."""
        self.page.goto("about:blank")  # else it would take hold of the new kernel, and run nothing
        self._stop()
        self._start()
        self.page.goto(f"http://127.0.0.1:{self._port}")

    def close(self) -> None:
        """End the page, the server and its kernel, and remove the settings."""
        self._context.close()
        self._stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self) -> None:
        command = [sys.executable, "-m", "marimo", "edit", str(self._notebook), "--headless", "--no-token"]
        command += [f"--port={self._port}", "--skip-update-check"]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(self._home)}
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._notebook.parent, stdout=log, stderr=log
            )
        self._await_answer()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2).close()
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"marimo did not start:\n{(self._home / 'log').read_text(errors='replace')[-3000:]}")


def _written(cells: Sequence[str]) -> str:
    """Return a notebook as marimo writes it: each cell the body of a function."""
    bodies = (f"@app.cell\ndef _():\n{indent(cell, '    ')}\n    return\n" for cell in cells)
    return "\n\n".join(["import marimo\n\napp = marimo.App()", *bodies])
