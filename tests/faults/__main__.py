"""Break every promise on purpose and print what was counted: ``python -m tests.faults``, in the project's folder."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Run the faults, those without a marker included; the table comes last."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="how many times as many trials (default 1, as in CI)")
    options, others = parser.parse_known_args()
    os.environ["FAULTS_TIMES"] = str(options.times)
    patience = f"--timeout={600 * options.times}"
    return pytest.main([str(Path(__file__).parent), "-m", "", "-q", patience, *others])


if __name__ == "__main__":
    sys.exit(main())
