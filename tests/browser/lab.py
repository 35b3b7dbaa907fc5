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

import nbformat
from playwright.sync_api import Browser, Dialog, Locator, Page, expect, sync_playwright

__all__ = [
    "SETUP",
    "Notebook",
    "Server",
    "WebServer",
    "browser_in",
    "chromium",
    "poor_contrast",
    "row_of",
    "rows",
    "write_notebook",
]

expect.set_options(timeout=30_000)  # a loaded machine answers late; a right answer ends the wait at once

_PATIENCE_SECONDS = 150  # a loaded machine starts a server late
_OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
_OPTIONS = [
    *("--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.port_retries=0"),
    *("--IdentityProvider.token=", "--ServerApp.token=", "--ServerApp.disable_check_xsrf=True"),
    *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
]
_READY = """() => { const panel = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const context = panel && panel.sessionContext;
    return context && context.isReady && context.session?.kernel?.status === 'idle'; }"""
_RUN = """([index, wait]) => { const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index; notebook.deselectAll();
    const ended = window.jupyterapp.commands.execute('notebook:run-cell');
    return wait ? ended.then(() => null) : null; }"""
_POOR_CONTRAST = """root => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = (colour, under) => { canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
        canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)]; };
    const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = node => { const chain = []; for (let n = node; n; n = n.parentElement) chain.unshift(n);
        return chain.reduce((under, n) => `rgb(${rgb(getComputedStyle(n).backgroundColor, under)})`, 'white'); };
    const bad = [];
    for (const node of root.querySelectorAll('*')) {
        const text = [...node.childNodes].some(c => c.nodeType === 3 && c.data.trim());
        if (!text || !node.offsetParent || node.closest(':disabled, option, .pk-hidden')) continue;
        const back = behind(node);
        const [a, b] = [light(rgb(getComputedStyle(node).color, back)),
            light(rgb(back, 'white'))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) bad.push(`${node.className} ${node.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return bad; }"""

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
         "image": png, "npy": npy.getvalue(), "parquet": parquet.getvalue(), "large": (b"x" * 99 + b"\n") * 30_000,
         "damaged": b"PAR1" + bytes(90), "cut off.png": png[:-20], "bomb.png": png_of(20_000, 20_000)}
script = "window.hacked = 1"
hostile = {f"<img src=x onerror='{script}'>": b"1", f"</script><script>{script}</script>": b"2", "\u202egnp.exe": b"3",
           "k" * 1024: b"4", "\x1b[31mred": b"5", "deep": b"[" * 10_000 + b"]" * 10_000,
           "svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{script}"><script>{script}</script></svg>'.encode(),
           "html": f"<img src=x onerror='{script}'>".encode(),
           "json": json.dumps([f"<img src=x onerror='{script}'>"]).encode(),
           "200 MB": b'["' + b"x" * 200_000_000 + b'"]'}
"""


class WebServer:
    """A program that serves a page on a free loopback port; its settings are private, it ends by its own process id."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = Path(tempfile.mkdtemp(prefix="persistkit-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, module: str, options: Sequence[str], environment: dict[str, str], ready: str) -> None:
        """Start a module of Python's, and wait until its page ``ready`` answers."""
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *options, f"--port={self.port}"],
                env={**os.environ, "PYTHONPATH": path, **environment},
                cwd=self.root,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/{ready}", timeout=2).close()  # noqa: S310 - our own server
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        log_end = (self.home / "log").read_text(errors="replace")[-3000:]
        self.close()
        raise RuntimeError(f"{module} did not start:\n{log_end}")

    def stop(self) -> None:
        """End the program with what it started."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the program, and remove its settings."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


class Server(WebServer):
    """JupyterLab or Notebook 7 without a token."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        settings = self.home / "config" / "labconfig"
        settings.mkdir(parents=True)
        (settings / "default_setting_overrides.json").write_text(json.dumps(_OVERRIDES))
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        private = {name: str(self.home / folder) for name, folder in folders.items()}
        options = [*_OPTIONS, f"--notebook-dir={root}"]
        self.start("jupyterlab", options, {**private, "JUPYTER_PLATFORM_DIRS": "1"}, "api/status")


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
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": kernel})  # type: ignore[no-untyped-call]
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


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

    def copied(self) -> str:
        """Return what is on the clipboard."""
        return str(self.page.evaluate("() => navigator.clipboard.readText()"))

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


def poor_contrast(widget: Locator) -> list[str]:
    """Return the texts whose colour differs from what is behind them by less than 4.5 to 1."""
    found: list[str] = widget.evaluate(_POOR_CONTRAST)
    return found
