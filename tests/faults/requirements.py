"""Requirements: what a test needs of the machine, and the skip that names it.

On CI (``CI=true``) a missing program or right is a failure; only what the kernel itself refuses is skipped there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .fork_server import MOUNTS_OF_ITS_OWN

REFUSED = "the kernel refuses"


def require(*programs: str) -> None:
    """Skip the test, by name, unless it runs on Linux as root and the programs are installed."""
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    missing = [program for program in programs if shutil.which(program) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        complain = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        complain(f"needs {', '.join(missing)}")


def require_kernel(what: str, *command: str) -> None:
    """Skip the test, saying that the kernel refuses ``what``, unless ``command`` succeeds."""
    tried = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"{REFUSED} {what}: {' '.join(tried.stderr.split())[-200:]}")


def require_fork() -> None:
    """Skip the test, by name, where processes cannot fork."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")


def require_mounts(folder: Path, system: str) -> None:
    """Skip the test, by name, where ``system`` cannot be mounted: a file system on an image, or ``tmpfs``."""
    if system == "tmpfs":
        require("unshare", "mount")
        require_kernel("to mount a tmpfs", *MOUNTS_OF_ITS_OWN, "mount", "-t", "tmpfs", "none", str(folder))
        return
    require("unshare", "mount", f"mkfs.{system}")
    image = folder / f"probe.{system}"
    with open(image, "wb") as made:
        made.truncate(320 << 20)
    subprocess.run([f"mkfs.{system}", "-q", str(image)], check=True, capture_output=True)
    require_kernel(f"to mount an image of {system}", *MOUNTS_OF_ITS_OWN, "mount", "-o", "loop", str(image), str(folder))
    image.unlink()
