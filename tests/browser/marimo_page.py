"""marimo on a free loopback port, driven with Chromium."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from lab import WebServer
from playwright.sync_api import Browser, Locator, Page

__all__ = ["MarimoPage"]

_SETTINGS = '[runtime]\nauto_instantiate = true\n\n[display]\ntheme = "{theme}"\n'


class MarimoPage(WebServer):
    """One notebook in marimo's editor, run as it is opened."""

    def __init__(self, browser: Browser, folder: Path, cells: Sequence[str], theme: str = "light") -> None:
        super().__init__(folder)
        (self.home / "marimo").mkdir()
        (self.home / "marimo" / "marimo.toml").write_text(_SETTINGS.format(theme=theme))
        (folder / "notebook.py").write_text(_written(cells), encoding="utf-8")
        self._context = browser.new_context(viewport={"width": 1280, "height": 1200})
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._open()

    def cell(self, index: int) -> Locator:
        """Return one cell."""
        return self.page.locator("marimo-island, .marimo-cell").nth(index)

    def restart(self) -> None:
        """End the server with its kernel, and run the notebook again in new ones."""
        self.page.goto("about:blank")  # else it would take hold of the new kernel, and run nothing
        self.stop()
        self._open()

    def close(self) -> None:
        """End the page, the server and its kernel, and remove the settings."""
        self._context.close()
        super().close()

    def _open(self) -> None:
        options = ["edit", "notebook.py", "--headless", "--no-token", "--skip-update-check"]
        self.start("marimo", options, {"XDG_CONFIG_HOME": str(self.home)}, "health")
        self.page.goto(self.url)


def _written(cells: Sequence[str]) -> str:
    """Return a notebook as marimo writes it: each cell the body of a function."""
    bodies = (f"@app.cell\ndef _():\n{indent(cell, '    ')}\n    return\n" for cell in cells)
    return "\n\n".join(["import marimo\n\napp = marimo.App()", *bodies])
