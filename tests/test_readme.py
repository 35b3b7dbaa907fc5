"""The README: its code runs, and what it points to is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from servers import S3Server

import persistkit

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all blocks, one after the other, with the sample directory where a clone has it."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(PROJECT / "notebooks" / "data", folder / "notebooks" / "data")
    return folder


@pytest.fixture(scope="module")
def environment(s3_server: S3Server) -> dict[str, str]:
    """What a person sets for a bucket, here for the S3 server of the tests."""
    return {
        **os.environ,
        "PYTHONPATH": str(Path(persistkit.__file__).parent.parent),
        "AWS_ENDPOINT_URL": s3_server.options["endpoint"],
        "AWS_REGION": s3_server.options["region"],
        "AWS_ACCESS_KEY_ID": s3_server.options["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3_server.options["secret_access_key"],
    }


def test_every_block_of_code_runs(folder: Path, environment: dict[str, str]) -> None:
    """Each block is a script that runs to its end as it stands, in the order of the page."""
    assert len(BLOCKS) == 7
    for number, block in enumerate(BLOCKS):
        script = folder / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        command = [sys.executable, str(script)]
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert run.returncode == 0, f"{block}\n{run.stderr}"
    store = persistkit.open(folder / "results", read_only=True)
    assert store["sweep/step/99"] == {"loss": 0.01}
    assert [key.rpartition("/")[0] for key in store.keys("cache/")] == ["cache/simulate"]


def test_the_contract_in_the_readme_passes(folder: Path, environment: dict[str, str]) -> None:
    """The engine of four methods that the page shows keeps the contract it is put to."""
    (own,) = (block for block in BLOCKS if "EngineContract" in block)
    (folder / "test_own.py").write_text(own, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "any_key or prefix", "test_own.py"]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout


def test_what_the_readme_points_to_is_there() -> None:
    """Every picture, notebook and file that is named exists in the project."""
    linked = re.findall(r"(?:src|srcset)=\"([^\"]+)\"|\]\(([^)]+)\)|`((?:tests|notebooks|\.ci)/[^` ]+)`", README)
    paths = {path for found in linked for path in found if path}
    assert len(paths) >= 12
    assert {path for path in paths if not (PROJECT / path).exists()} == set()


def test_the_install_lines_name_the_extras_there_are() -> None:
    """Each extra the page installs is one of the project's."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for extras in re.findall(r"\.\[([a-z0-9,]+)\]", README) for extra in extras.split(",")}
    assert named <= set(project["optional-dependencies"])
    assert f"**{project['version']}**" in README
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in README
