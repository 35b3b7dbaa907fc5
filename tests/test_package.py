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

import pytest

import persistkit

PACKAGE = Path(persistkit.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "persistkit."))
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# From the top to the ground: a module imports only from layers below its own.
LAYERS = [
    {"agent_runtime"},
    {"store"},
    {"card"},
    {"browser", "frames", "transfer", "testing"},
    {"blocking", "formats"},
    {"backends"},
    {"backend"},
    {"recovery", "streams"},
    {"filenames"},
    {"operations", "progress"},
    {"errors"},
]
FACADE = "__init__"
SHARED = ("addresses", "cancellation", "connections")  # what serves several engines


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
    """No module imports from its own layer's neighbours or from above; filenames alone calls recovery, when asked."""
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        top = module.split(".")[0]
        if module == FACADE:
            continue
        for imported in imports_of(path):
            target = ([*imported.split("."), FACADE])[1]
            if target in (top, FACADE) or (top, target) == ("filenames", "recovery"):
                continue
            assert layer_of(target) > layer_of(top), f"{module} imports {imported}"


def test_backends_never_import_each_other() -> None:
    """An engine stands alone; the parts of one belong together; SHARED serves all."""
    engines = [
        {"file", "file_streams", "files", "directory", "claims", "check"},
        {"sql", "sql_engine", "sql_table"},
        {"objects", "object_names", "object_requests", "object_streams"},
    ]
    for path in (PACKAGE / "backends").glob("*.py"):
        for imported in imports_of(path):
            parts = imported.split(".")
            if parts[1] == "backends" and parts[2] not in SHARED and path.stem != "__init__":
                assert any({path.stem, parts[2]} <= of_one for of_one in engines), f"{path.name} imports {imported}"


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


def test_importing_loads_nothing_heavy() -> None:
    """``import persistkit``, and using files with it, brings in neither NumPy nor pandas nor widgets."""
    script = """
import sys, persistkit
persistkit.FilePersistenceBackend, persistkit.BlockingBackend, persistkit.MemoryPersistenceBackend
print([name for name in ("numpy", "pandas", "ipywidgets", "anywidget", "anyio", "tqdm") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["persistkit", *MODULES])
def test_examples_in_docstrings_hold(name: str) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_were_run_from_top_to_bottom(path: Path) -> None:
    """Every code cell was executed, in order, without an error that was not meant."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        meant = "raises-exception" in cell["metadata"].get("tags", [])
        assert meant or not [output for output in cell["outputs"] if output["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_read_at_a_glance(path: Path) -> None:
    """A code cell has ten lines at most; no output names a person's folder."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            assert len(source.splitlines()) <= 10, source
            assert not re.search(r"/(home|root|Users)/", json.dumps(cell["outputs"]))


def test_there_are_notebooks() -> None:
    """The first notebook is there."""
    assert "01_first_look.ipynb" in [path.name for path in NOTEBOOKS]
