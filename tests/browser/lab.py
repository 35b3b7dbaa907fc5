"""A real JupyterLab or Notebook 7 on a free loopback port, and notebooks driven in it with Chromium."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Dialog, Locator, Page, expect, sync_playwright

__all__ = ["SETUP", "Notebook", "Server", "browser_in", "chromium", "row_of", "rows", "write_notebook"]

expect.set_options(timeout=30_000)  # a loaded machine answers late; a right answer ends the wait at once

_PATIENCE_SECONDS = 150  # a loaded machine starts a server late
_OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
_READY = """() => { const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const context = panel && panel.sessionContext;
    return context && context.isReady && context.session?.kernel?.status === 'idle'; }"""
_RUN = """([index, wait]) => { const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index; notebook.deselectAll();
    const ended = window.jupyterapp.commands.execute('notebook:run-cell');
    return wait ? ended.then(() => null) : null; }"""

SETUP = r"""
import io, json, time, zlib
from pathlib import Path
import ipywidgets, numpy as np, pandas as pd
from persistkit.browser import KeyBrowser
from persistkit.engines import open_engine
from persistkit.engines.memory import MemoryEngine

def browser_of(values, **options):
    memory = MemoryEngine()
    memory.batch_save(values)
    return KeyBrowser(memory, **options)

def png_of(width, height):
    part = lambda name, data: len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
    pixels = zlib.compressobj(9)
    rows = b"".join(pixels.compress(bytes(1 + width // 8)) for _ in range(height)) + pixels.flush()
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0]))
            + part(b"IDAT", rows) + part(b"IEND", b""))

npy, parquet = io.BytesIO(), io.BytesIO()
np.save(npy, np.arange(12.0).reshape(4, 3))
pd.DataFrame({"n": [1, 2], "text": ["a", "<b>"]}).to_parquet(parquet)
png = png_of(40, 20)
kinds = {"json": b'{"steps": [1, 2], "ok": true}', "text": "Grüße\x1b[31m".encode(), "hex": b"\xff\x00\x01",
         "image": png, "npy": npy.getvalue(), "parquet": parquet.getvalue(), "large": b"x" * 3_000_000,
         "damaged": b"PAR1" + bytes(90), "cut off.png": png[:-20], "bomb.png": png_of(20_000, 20_000)}
script = "window.hacked = 1"
hostile = {f"<img src=x onerror='{script}'>": b"1", f"</script><script>{script}</script>": b"2", "\u202egnp.exe": b"3",
           "k" * 1024: b"4", "\x1b[31mred": b"5", "deep": b"[" * 10_000 + b"]" * 10_000,
           "svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{script}"><script>{script}</script></svg>'.encode(),
           "html": f"<img src=x onerror='{script}'>".encode(),
           "json": json.dumps([f"<img src=x onerror='{script}'>"]).encode(),
           "200 MB": b'["' + b"x" * 200_000_000 + b'"]'}
"""


class Server:
    """JupyterLab or Notebook 7 without a token, its settings private; ended by its own process id."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._home = Path(tempfile.mkdtemp(prefix="persistkit-lab-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = self._home / "config" / "labconfig"
        settings.mkdir(parents=True)
        (settings / "default_setting_overrides.json").write_text(json.dumps(_OVERRIDES))
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.token=",
            f"--notebook-dir={root}",
        ]
        command += ["--ServerApp.disable_check_xsrf=True", "--LabApp.expose_app_in_browser=True"]
        command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen(command, env=self._environment(), cwd=root, stdout=log, stderr=log)
        self._await_answer()

    def close(self) -> None:
        """End the server and its kernels, and remove its settings."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        private = {"CONFIG": "config", "RUNTIME": "runtime", "DATA": "data"}
        package = str(Path(__file__).parents[2])
        return {
            **os.environ,
            **{f"JUPYTER_{name}_DIR": str(self._home / folder) for name, folder in private.items()},
            "JUPYTERLAB_SETTINGS_DIR": str(self._home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._home / "workspaces"),
            "IPYTHONDIR": str(self._home / "ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        }

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/api/status", timeout=2).close()  # noqa: S310 - our own server
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        log = (self._home / "log").read_text(errors="replace")[-3000:]
        self.close()
        raise RuntimeError(f"JupyterLab did not start:\n{log}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium that is installed; nothing is downloaded."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser
        browser.close()


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of code cells."""
    code: dict[str, object] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": [{**code, "id": f"cell-{number}", "source": cell} for number, cell in enumerate(cells)],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content), encoding="utf-8")


class Notebook:
    """One notebook, open in one page."""

    def __init__(self, browser: Browser, server: Server, path: str, *, app: str = "lab/tree") -> None:
        self._context = browser.new_context(
            viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
        )
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.received: list[int] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on(
            "websocket", lambda socket: socket.on("framereceived", lambda data: self.received.append(len(data)))
        )
        self.page.goto(f"{server.url}/{app}/{path}{'?reset' if app == 'lab/tree' else ''}")
        self.page.wait_for_function(_READY, timeout=_PATIENCE_SECONDS * 1000)
        if app == "lab/tree":
            self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def run(self, cell: int, *, wait: bool = True) -> None:
        """Run one cell, and wait until it has ended."""
        self.page.evaluate(_RUN, [cell, wait])

    def theme(self, name: str) -> None:
        """Change the theme and wait for it."""
        self.page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)

    def cell(self, index: int) -> Locator:
        """Return one cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def cells(self) -> int:
        """Count the cells, as the notebook's model knows them."""
        return int(self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length"))

    def close(self) -> None:
        """End the kernel and the page."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self._context.close()


def browser_in(notebook: Notebook, cell: int) -> Locator:
    """Run a cell and return its browser once its rows are there."""
    notebook.run(cell)
    widget = notebook.cell(cell).locator(".pk").first
    expect(rows(widget).first).to_be_visible()
    return widget


def rows(widget: Locator) -> Locator:
    """Return the rows of the table."""
    return widget.locator(".pk-keys tbody tr")


def row_of(widget: Locator, key: str) -> Locator:
    """Return the row whose key starts with a text."""
    return rows(widget).filter(has=widget.page.locator(f'td.pk-key[title^="{key}"]'))
