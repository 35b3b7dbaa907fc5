"""Sharing: a directory that several users write, where the files of the others may be replaced and not touched.

    unshare --mount python -m faults.sharing WRITER FOLDER

Prints the trials as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from . import broken
from .broken import Directory, backend_of
from .crashes import run
from .deeds import DEEDS, judge, perform
from .refusals import MOUNTPOINT, somebody_else
from .trials import Trials
from .zygote import warm_up


def share(kind: type[Directory], folder: Path) -> Trials:
    """Carry each deed out as another user than the one who wrote what is there; each must go well."""
    trials = Trials()
    for number, deed in enumerate(DEEDS):
        base = folder / str(number)
        deed.prepare(base)
        base.chmod(0o777)
        with asyncio.Runner() as runner, somebody_else():
            outcome = perform(deed, backend_of(kind, base), runner)
        wrong = [f"refused: {outcome.text}"] if outcome.error else []
        wrong += judge(deed, base, outcome, temps=False)
        trials.add(*(f"{deed.name}: {violation}" for violation in wrong))
    return trials


if __name__ == "__main__":
    warm_up()
    os.umask(0o022)
    run("mount", "-t", "tmpfs", "none", str(MOUNTPOINT))
    print(json.dumps(asdict(share(getattr(broken, sys.argv[1]), MOUNTPOINT))))
