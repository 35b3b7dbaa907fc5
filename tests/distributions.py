"""What the built wheel and source archive hold, and what an extra brings: run by ``.ci/run`` on what it built.

python tests/distributions.py dist
python tests/distributions.py --extra redis
python tests/distributions.py --kept versions
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).parent.parent
# Each opens or stores something that needs the extra's packages, and no server.
USES = {
    "none": "import pandas; store['x'] = pandas.DataFrame({'a': [1]}); assert store['x']['a'].tolist() == [1]; "
    "s = persistkit.open('sqlite:///state.db', create=True); s['x'] = 1; assert s['x'] == 1; s.close()",
    "agents": "from persistkit.formats.langgraph import decode_payload as d; assert d('msgpack', bytes([7])) == 7",
    "keys": "import flint",
    "pydantic": "s = store.view('run/', dict[str, int]); s['a'] = {'x': 1}; assert s['a'] == {'x': 1}",
    "postgresql": "persistkit.open('postgresql://localhost/state')",
    "redis": "persistkit.open('valkey://localhost')",
    "s3": "persistkit.open('s3://bucket', region='us-east-1', skip_signature='true')",
}


def packaged() -> set[str]:
    """Return the files of the package, as version control knows them."""
    listed = subprocess.run(["git", "ls-files", "persistkit"], cwd=PROJECT, check=True, capture_output=True, text=True)  # noqa: S607
    return set(listed.stdout.split())


def problems(folder: Path) -> list[str]:
    """Return what is missing from the archives in ``folder``, and what does not belong there."""
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = {name for name in opened.namelist() if ".dist-info/" not in name}
        licensed = any(name.endswith("licenses/LICENSE") for name in opened.namelist())
    with tarfile.open(archive) as opened:
        in_archive = {name.partition("/")[2] for name in opened.getnames()}
    found = [f"the wheel differs from the package: {sorted(in_wheel ^ packaged())}"] if in_wheel != packaged() else []
    found += [] if licensed else ["the wheel holds no LICENSE"]
    wanted = packaged() | {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO", "tests/conftest.py"}
    wanted |= {"notebooks/01_first_look.ipynb", "notebooks/data/agent-state.keys.json"}
    found += [f"the source archive lacks {sorted(wanted - in_archive)}"] if wanted - in_archive else []
    tops = {name.partition("/")[0] for name in in_archive}
    strange = tops - {"persistkit", "notebooks", "tests", *wanted, ".gitignore"}
    strange |= {name for name in in_archive if "__pycache__" in name or ".ipynb_checkpoints" in name}
    return found + ([f"the source archive holds {sorted(strange)}"] if strange else [])


def use(extra: str) -> None:
    """Use what the extra brings (``none``: the package alone), in this environment, away from the source."""
    line = f"import persistkit; store = persistkit.open('memory:'); {USES[extra]}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", line], check=True, cwd=folder)


def replaced(versions: Path) -> list[str]:
    """Return which of the versions that ``pip freeze`` wrote are no longer the installed ones."""
    pinned = (line.split("==") for line in versions.read_text(encoding="utf-8").split() if "==" in line)
    return [f"{name} {before} became {version(name)}" for name, before in pinned if version(name) != before]


if __name__ == "__main__":
    if sys.argv[1] == "--extra":
        use(sys.argv[2])
    elif sys.argv[1] == "--kept":
        sys.exit("\n".join(replaced(Path(sys.argv[2]))) or 0)
    elif found := problems(Path(sys.argv[1])):
        sys.exit("\n".join(found))
