"""An engine of one's own, as notebook 06 explains it: values in files, one per key, named by the key's bytes in hex."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

from persistkit import Engine, Entry


class LettersEngine(Engine):
    def __init__(self, folder):
        self.folder = Path(folder) / "values"

    def path_for(self, key):
        letters = key.encode().hex()  # up to 2,048, where a file's name has at most 255
        pieces = [letters[start : start + 200] for start in range(0, len(letters), 200)]
        return self.folder.joinpath(*pieces, "value")

    def _save(self, key, value):
        path = self.path_for(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"new-{uuid.uuid4().hex}")
        try:
            new.write_bytes(value)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def _load(self, key):
        try:
            return self.path_for(key).read_bytes()
        except FileNotFoundError:
            return None

    def _delete(self, key):
        self.path_for(key).unlink(missing_ok=True)

    def _entries(self, prefix):
        for path in self.folder.glob("**/value"):
            key = bytes.fromhex("".join(path.parent.relative_to(self.folder).parts)).decode()
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if key.startswith(prefix):
                yield Entry(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
