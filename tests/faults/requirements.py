"""Requirements: what a test needs of the machine, and the skip that names it.

On CI (``CI=true``) a missing program or right is a failure; only what the kernel itself refuses is skipped there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

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
