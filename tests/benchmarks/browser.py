"""The browser's targets, measured in a real JupyterLab with Chromium, for the counts of keys that are named.

    python tests/benchmarks/browser.py 100_000 1_000_000

Jupyter's server leaves Nagle's algorithm on: what it sends right after "busy" waits for the page's delayed ACK, so
every second answer comes about 40 ms late, whatever persistkit does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from lab import Notebook, Server, chromium, write_notebook

_CELLS = [
    "from pathlib import Path\n"
    "from persistkit.browser import KeyBrowser\n"
    "from persistkit.engines.memory import MemoryEngine\n"
    "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
    "memory = MemoryEngine()\n"
    "memory.batch_save({f'run:{n * 7919 % COUNT:07d}/step:{n % 997:06d}': bytes(n % 89) for n in range(COUNT)})",
    "before = resident(); browser = KeyBrowser(memory); browser.wait(); grown = resident() - before",
    "browser",
    "print(grown / COUNT)",
]
# Resolves with the milliseconds until the next rows stand in the table, and until they are painted.
_TIMED = """async ([act, argument]) => {
    const drawn = () => performance.now() - begin;
    const rows = document.querySelector('.pk-keys tbody');
    const ended = new Promise(resolve => new MutationObserver((_, observer) => {
        observer.disconnect();
        const placed = drawn();
        requestAnimationFrame(() => setTimeout(() => resolve([placed, drawn()])));
    }).observe(rows ?? document.querySelector('.jp-Notebook'), {childList: true, subtree: !rows}));
    const begin = performance.now();
    new Function('argument', act)(argument);
    return ended; }"""
_CLICK = "document.querySelector(`.pk [aria-label='${argument}']`).click()"
_SEARCH = """const field = document.querySelector('.pk-search'), how = field.nextSibling;
    [how.value, field.value] = argument; field.dispatchEvent(new Event('input'));"""
_PAGE = """const field = document.querySelector('.pk-page');
    field.value = argument; field.dispatchEvent(new Event('change'));"""
_PAINT = """() => new Promise(resolve => {
    const begin = performance.now(), notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = 2; notebook.deselectAll();
    window.jupyterapp.commands.execute('notebook:run-cell');
    const look = () => document.querySelector('.pk-keys tbody tr')
        ? requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begin))) : setTimeout(look, 1);
    look(); })"""


def main() -> None:
    """Measure each count of keys that is named."""
    for count in [int(text) for text in sys.argv[1:]] or [100_000]:
        with _opened(count) as notebook:
            _measure(notebook, count)


@contextmanager
def _opened(count: int) -> Iterator[Notebook]:
    with tempfile.TemporaryDirectory() as root, chromium() as browser:
        server = Server(Path(root))
        try:
            write_notebook(Path(root) / "keys.ipynb", [f"COUNT = {count}\n{_CELLS[0]}", *_CELLS[1:]])
            notebook = Notebook(browser, server, "keys.ipynb")
            yield notebook
            notebook.close()
        finally:
            server.close()


def _measure(notebook: Notebook, count: int) -> None:
    notebook.run(0)
    notebook.run(1)
    page = notebook.page
    page.wait_for_timeout(1000)
    notebook.received.clear()
    paint = page.evaluate(_PAINT)
    page.wait_for_timeout(500)
    print(f"{count:>9,} keys: first paint {paint:.0f} ms, {sum(notebook.received) / 1000:.1f} kB")

    def timed(name: str, act: str, arguments: Iterable[object]) -> None:
        times, sizes = [], []
        for argument in arguments:
            notebook.received.clear()
            times.append(page.evaluate(_TIMED, [act, argument]))
            page.wait_for_timeout(100)
            sizes.append(sum(notebook.received) / 1000)
        placed, painted = ([one[part] for one in times] for part in (0, 1))
        print(
            f"  {name}: {median(painted):.0f} ms painted ({min(painted):.0f} to {max(painted):.0f}), "
            f"{median(placed):.0f} ms in the table, {median(sizes):.1f} kB"
        )

    timed("first sort by time", _CLICK, ["Sort by modified"])
    timed("first sort by size", _CLICK, ["Sort by size"])
    timed("first sort by key", _CLICK, ["Sort by key"])
    timed("next page", _CLICK, ["Next page"] * 9)
    timed("jump to a page", _PAGE, [count // 50 * turn // 10 for turn in range(1, 10)])
    timed("substring", _SEARCH, [["substring", f"{turn}/step:000{turn}"] for turn in range(9)])
    timed("prefix", _SEARCH, [["prefix", f"run:00{turn}"] for turn in range(9)])
    timed("glob", _SEARCH, [["glob", f"*:0*{turn}?/*:000[0-4]{turn}*"] for turn in range(9)])
    notebook.run(3)
    grown = float(notebook.cell(3).locator(".jp-OutputArea-output").inner_text())
    print(f"  grown while listing: {grown:.0f} bytes a key")


if __name__ == "__main__":
    main()
