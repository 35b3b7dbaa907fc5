"""The sample directory of these notebooks: what scripted agents of a small shop left behind.

The agents follow a script, their tools really answered; the runtime that stored all of it is written in Rust.
"""

import atexit
import json
import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from persistkit import FilePersistenceBackend

_DATA = Path(__file__).parent / "data"


def copy_of_sample() -> Path:
    """Return a copy to try things on, gone when the kernel ends; the files' times are as the agent left them."""
    temporary = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    folder = shutil.copytree(_DATA / "agent-state", Path(temporary) / "agent-state")
    backend = FilePersistenceBackend(folder)
    for key, moment in json.loads((_DATA / "agent-state.times.json").read_text()).items():
        seconds = datetime.fromisoformat(moment).timestamp()
        os.utime(backend.path_for(key), (seconds, seconds))
    return folder
