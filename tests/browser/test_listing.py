"""The listing behind the browser: what it shows while names that are hard to read are still searched for."""

from __future__ import annotations

import random
from pathlib import Path
from queue import Queue

from persistkit.browser.listing import Listing
from persistkit.engines.files import FileEngine
from persistkit.keys import filename_for
from persistkit.selection import Selection


def test_easy_names_are_shown_while_hard_ones_are_searched_for(tmp_path: Path) -> None:
    """Where names take long to read, the keys of all others are shown soon, and the listing goes on."""
    dice = random.Random(1)
    for number in range(150):  # some twenty milliseconds each
        text = "".join("a" * dice.randrange(1, 9) + "_" for _ in range(12))
        (tmp_path / f"{text}{number}-{dice.getrandbits(64):016x}.bin").touch()
    honest = [f"session:{number}/step:{number % 7}" for number in range(1000)]
    for key in honest:
        (tmp_path / filename_for(key)).touch()
    running: Queue[bool] = Queue()
    listing = Listing(FileEngine(tmp_path), Selection(), lambda: running.put(listing.running))
    listing.start()
    try:
        while len(listing.snapshot.index) < len(honest):
            assert running.get(timeout=30)
        index = listing.snapshot.index
        assert [index.entry(row).key for row in range(len(index))] == sorted(honest)
    finally:
        listing.close()
