"""The package as a whole: its public names, its layers, what importing it loads, and its notebooks."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import persistkit

PACKAGE = Path(persistkit.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "persistkit."))
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# From the top to the ground: a module imports only from layers below its own.
LAYERS = [
    {"agents"},
    {"store"},
    {"reports"},
    {"aio", "caching", "mapping", "pruning", "staging"},
    {"browser", "card", "moving", "shapes", "suggestions", "testing", "transfer"},
    {"diff", "search"},
    {"differences", "frames", "views"},
    {"alignment"},
    {"background"},
    {"backend"},
    {"formats", "progress", "selection", "text"},
    {"engines"},
    {"engine"},
    {"entry", "streaming"},
    {"streams"},
    {"keys"},
    {"batches", "locking", "workers"},
    {"arguments", "rows", "trace"},
    {"errors"},
]
FACADE = "__init__"
# What serves several engines; other programs' tables are read through our own connections.
SHARED = ("addresses", "postgresql", "prefix", "read_only", "sql", "sqlite", "sqlite_read_only")


def layer_of(name: str) -> int:
    """Return how far below the top a module's first name stands."""
    return next(depth for depth, layer in enumerate(LAYERS) if name in layer)


def imports_of(path: Path) -> set[str]:
    """Return the persistkit modules a file imports, those of type checking apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "persistkit":
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.split(".")[0] == "persistkit"}
    return found


def test_imports_point_down_only() -> None:
    """No module imports from its own layer's neighbours or from above."""
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        top = module.split(".")[0]
        for imported in imports_of(path):
            target = ([*imported.split("."), FACADE])[1]
            if FACADE not in (module, target) and target != top:
                assert layer_of(target) > layer_of(top), f"{module} imports {imported}"


def test_engines_never_import_each_other() -> None:
    """An engine stands alone, in a folder, or in modules whose names begin alike; SHARED serves all."""
    for path in (PACKAGE / "engines").rglob("*.py"):
        own = path.relative_to(PACKAGE / "engines").with_suffix("").parts[0]
        for imported in imports_of(path):
            parts = imported.split(".")
            if parts[1] == "engines" and len(parts) > 2 and own != FACADE and parts[2] not in SHARED:
                assert parts[2].split("_")[0] == own.split("_")[0], f"{path.name} imports {imported}"


# As few as can be: a newcomer follows a value from the dictionary to the disk.
@pytest.mark.parametrize(
    ("address", "most"), [("memory:", 4), ("sqlite:///state.db", 5), ("results", 7)], ids=lambda given: str(given)
)
def test_one_put_passes_through_few_modules(
    address: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing, loading and asking for a small dict runs code in that many modules of ours at most."""
    monkeypatch.chdir(tmp_path)
    with persistkit.open(address, create=True) as store:
        store["run/1"] = store.get("run/1", {"loss": 0.25})  # whatever is loaded and opened once
        seen: set[str] = set()

        def note(frame: Any, event: str, _: object) -> None:  # Any: what sys.setprofile hands out
            if event == "call" and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
                seen.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))

        for use in (
            lambda: store.__setitem__("run/1", {"loss": 0.5}),
            lambda: store["run/1"],
            lambda: "run/1" in store,
        ):
            seen.clear()
            sys.setprofile(note)
            try:
                use()
            finally:
                sys.setprofile(None)
            assert len(seen) <= most, sorted(seen)


@pytest.mark.parametrize("name", ["persistkit", *MODULES])
def test_all_is_the_truth(name: str) -> None:
    """Every name in ``__all__`` is there, once."""
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, public) is not None for public in module.__all__)


def test_public_names_are_what_tab_completion_shows() -> None:
    """The package shows its public names and nothing else, and a wrong name lists them."""
    assert dir(persistkit) == sorted(persistkit.__all__)
    with pytest.raises(AttributeError, match="FilePersistenceBackend"):
        persistkit.NoSuchName  # noqa: B018


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    """``import persistkit``, and using files with it, brings in no NumPy, pandas, widgets or event loop."""
    script = """
import sys, persistkit
store = persistkit.open("results", create=True)
store["run/1"] = {"loss": 0.25}
store["run/1"], "run/1" in store
heavy = ("numpy", "pandas", "ipywidgets", "anywidget", "anyio", "asyncio", "tqdm")
print([name for name in heavy if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["persistkit", *MODULES])
def test_examples_in_docstrings_hold(name: str) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_notebooks_were_run_from_top_to_bottom_and_are_read_at_a_glance() -> None:
    """Each code cell has at most twelve lines, was run in order, and shows no unmeant error and no person's folder."""
    assert "01_first_look.ipynb" in [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), path
        for cell in cells:
            source = "".join(cell["source"])
            assert len(source.splitlines()) <= 12, source
            assert not re.search(r"/(home|root|Users)/", json.dumps(cell["outputs"])), source
            meant = "raises-exception" in cell["metadata"].get("tags", [])
            assert meant or "error" not in [output["output_type"] for output in cell["outputs"]], source
