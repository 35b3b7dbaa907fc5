"""Isolation: a program of these tests in a mount namespace of its own, whose mounts vanish with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .requirements import require, require_kernel
from .trials import Trials

_ALONE = ("unshare", "--mount", "--propagation", "private")


def require_mounts(folder: Path, system: str) -> None:
    """Skip the test, by name, where ``system`` cannot be mounted: a file system on an image, or ``tmpfs``."""
    if system == "tmpfs":
        require("unshare", "mount")
        require_kernel("to mount a tmpfs", *_ALONE, "mount", "-t", "tmpfs", "none", str(folder))
        return
    require("unshare", "mount", f"mkfs.{system}")
    image = folder / f"probe.{system}"
    with open(image, "wb") as made:
        made.truncate(320 << 20)
    subprocess.run([f"mkfs.{system}", "-q", str(image)], check=True, capture_output=True)
    require_kernel(f"to mount an image of {system}", *_ALONE, "mount", "-o", "loop", str(image), str(folder))
    image.unlink()


def trials_of(program: str, *arguments: object, folder: Path, alone: bool = True) -> Trials:
    """Run ``python -m faults.<program>`` in a new folder, with mounts of its own, and return the trials it prints."""
    folder.mkdir()
    tests = str(Path(__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    command = [*_ALONE * alone, sys.executable, "-m", f"faults.{program}", *map(str, arguments), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Trials(**json.loads(done.stdout))
