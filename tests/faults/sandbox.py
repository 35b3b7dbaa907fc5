"""A sandbox: values and directories of other programs, opened in a child with limits, and measured.

Tasks of a fork server. A way of opening yields after each of its steps.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Final

import ipywidgets  # type: ignore[import-untyped]  # noqa: F401 - here and not in each process: what is imported once is not measured
import numpy as np
import pandas as pd
import pyarrow.compute  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401

import persistkit
from persistkit.browser import KeyBrowser
from persistkit.engines.files import FileEngine
from persistkit.errors import BatchError, FormatError, KeyCollisionError, StorageError

from .fork_server import PATIENCE_SECONDS, ForkServer

# The promise, for each step of a way. The seconds are the processor's: a loaded machine makes it wait, not work.
MOST_SECONDS: Final = 2.0
MOST_MEGABYTES: Final = 500.0
_MOST_BYTES = 3 * 1024**3
_LISTING_SECONDS = 60
_ERROR_CHARACTERS = 2_000
_MESSAGE_CHARACTERS = 16_000_000
MEBI = 1024 * 1024
OUTSIDE = b"outside"
TRUE_KEYS = ["good", "hard link", "sparse", "beside?>", "future", "past"]
_KINDS = (None, "json", "text", "hex", "image", "table")


def in_store(key: str, base: str) -> Iterator[str]:
    """Load the value, name its format, and show the store."""
    with persistkit.open(base, read_only=True) as store:
        yield str(store.format_of(key))
        assert len(store._repr_html_()) < _MESSAGE_CHARACTERS
        yield "shown"
        store.to_frame(prefix=key, formats=True)
        yield "listed"
        try:
            yield type(store[key]).__name__
        except FormatError as error:
            yield "FormatError" if len(str(error)) < _ERROR_CHARACTERS else "violation: a long message"


def in_table(key: str, base: str) -> Iterator[str]:
    """Make a table of the content."""
    with persistkit.open(base, read_only=True) as store:
        frame = store.values_frame(key)
        repr(frame)
        yield f"{len(frame)} row"


def in_browser(key: str, base: str) -> Iterator[str]:
    """Show the value in the browser, in each way there is, the first bytes and more."""
    browser = KeyBrowser(FileEngine(base))
    assert browser.wait(timeout_seconds=30)
    row = next(row for row in browser.handle({"op": "page", "limit": 250})[0]["rows"] if row[1] == key)[0]
    for kind, more in product(_KINDS, (False, True)):
        request = {"op": "preview", "row": row, "revision": 1, "show": kind, "bytes": 2**20 if more else 2**16}
        answer, _ = browser.handle(request)
        assert len(json.dumps(answer, allow_nan=False)) < _MESSAGE_CHARACTERS
        shown = str(answer["preview"]["view"] if "preview" in answer else answer["error"])
        assert shown in _KINDS, shown
        yield shown


def in_directory(_key: str, base: str) -> Iterator[str]:
    """List, frame, check and show a directory, and look at every entry: nothing hangs, only true keys are listed."""
    with persistkit.open(base, create=True, fsync=False) as store:
        engine = store.engine
        assert isinstance(engine, FileEngine)
        store.put_bytes("good", b"good")
        keys = store.keys()
        assert set(keys) <= set(TRUE_KEYS), keys
        assert store.get_bytes("good") == b"good"
        assert len(store.to_frame()) >= len(keys)
        assert len(store._repr_html_()) < _MESSAGE_CHARACTERS
        store.usage()
        findings = engine.check()
        browser = KeyBrowser(engine)
        assert browser.wait(timeout_seconds=_LISTING_SECONDS)
        rows = browser.handle({"op": "page", "limit": 50})[0]["rows"]
        for row in rows:
            answer, _ = browser.handle({"op": "preview", "row": row[0], "revision": 1})
            assert "preview" in answer or answer["error"], answer
        yield f"{len(keys)} keys, {len(findings)} findings, {len(rows)} rows"


def in_odd_files(key: str, base: str) -> Iterator[str]:
    """Do everything to one key under which something lies that is no value: an error or an answer, at once."""
    engine = FileEngine(base, fsync=False)
    answers = []
    assert not (key.startswith("value/") and engine.exists(key)), "what is no file is taken for a value"
    works: list[Callable[[], object]] = [
        lambda: engine.load(key),
        lambda: engine.exists(key),
        lambda: engine.batch_load([key]),
        lambda: _read_to_the_end(engine, key),
        lambda: engine.delete(key),
        lambda: engine.save(key, b"new"),
        lambda: engine.load(key),
        lambda: engine.list_keys(),
    ]
    for work in works:
        try:
            answer = never_from_outside(work())
            answers.append(answer if isinstance(answer, (bool, int)) else type(answer).__name__)
        except (StorageError, KeyCollisionError, BatchError) as error:
            answers.append(type(error).__name__)
    yield " ".join(map(str, answers))


def never_from_outside(answer: object) -> object:
    """Return an answer that is not what lies beside the directory."""
    assert answer != OUTSIDE, "a link was followed"
    assert not isinstance(answer, list) or OUTSIDE not in answer, "a link was followed"
    return answer


def _read_to_the_end(engine: FileEngine, key: str) -> int:
    reader = engine.open_reader(key)
    if reader is None:
        return 0
    size = 0
    with reader:
        while chunk := reader.read(MEBI):
            never_from_outside(chunk)
            size += len(chunk)
    return size


def full_of_other_files(count: str, base: str) -> Iterator[str]:
    """Fill a directory with so many files of other programs, one in ten of a value's shape."""
    directory = os.open(base, os.O_RDONLY)
    for number in range(int(count)):
        name = f"notes-{number:07}.txt" if number % 10 else f"a_{number}_b-{number * 7919 * 1000003 % 2**64:016x}.bin"
        os.mknod(name, 0o600, dir_fd=directory)
    yield count


def among_other_files(key: str, base: str) -> Iterator[str]:
    """Find the one value among files of other programs, in each way."""
    with persistkit.open(base, fsync=False) as store:
        engine = store.engine
        assert isinstance(engine, FileEngine)
        store.put_bytes(key, b"good")
        took = []
        works: list[Callable[[], bool]] = [
            lambda: store.get_bytes(key) == b"good",
            lambda: store.keys("go") == [key],
            lambda: key in set(store.to_frame()["key"]),
            lambda: bool(engine.check()),
            lambda: _listed(engine, key),
        ]
        for work in works:
            started = time.perf_counter()
            assert work()
            took.append(f"{time.perf_counter() - started:.1f} s")
        yield f"load, list, frame, check, browser: {', '.join(took)}"


def _listed(engine: FileEngine, key: str) -> bool:
    browser = KeyBrowser(engine)
    assert browser.wait(timeout_seconds=_LISTING_SECONDS)
    page = browser.handle({"op": "page", "query": key, "match": "prefix"})[0]
    (row,) = page["rows"]
    return "preview" in browser.handle({"op": "preview", "row": row[0], "revision": page["revision"]})[0]


def other_files_held(_key: str, base: str) -> Iterator[str]:
    """The control: hold what the system says of each file."""
    yield str(len([(entry.name, entry.stat()) for entry in os.scandir(base)]))


def without_care(key: str, base: str) -> Iterator[str]:
    """The control: open the value as everybody does."""
    data = FileEngine(base).load(key) or b""
    if data.startswith(b"PAR1"):
        value: object = pd.read_parquet(BytesIO(data))
    elif data.startswith(b"\x93NUMPY"):
        value = np.load(BytesIO(data), allow_pickle=True)
    else:
        value = pd.json_normalize(json.loads(data))
    yield str(value)


def without_a_look(key: str, base: str) -> Iterator[str]:
    """The control: read a file as everybody does."""
    content = FileEngine(base).path_for(key).read_bytes()
    never_from_outside(content)
    yield str(len(content))


WAYS: dict[str, Callable[[str, str], Iterator[str]]] = {
    way.__name__: way
    for way in (
        in_store, in_table, in_browser, in_directory, in_odd_files, among_other_files,
        full_of_other_files, other_files_held, without_care, without_a_look,
    )
}  # fmt: skip


def open_in_way(way: str, key: str, base: str) -> tuple[str, float]:
    """Open one value or directory; return the outcome and the processor seconds of the longest step."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcome, longest, began = "violation: nothing was done", 0.0, time.process_time()
    try:
        for step in WAYS[way](key, base):
            outcome = step
            longest, began = max(longest, time.process_time() - began), time.process_time()
    except BaseException as error:
        outcome = f"violation: {type(error).__name__}: {str(error)[:300]}"
        longest = max(longest, time.process_time() - began)
    return outcome, longest


def broken(
    server: ForkServer,
    way: str,
    key: str,
    base: Path,
    *,
    most_seconds: float = MOST_SECONDS,
    patience_seconds: int = PATIENCE_SECONDS,
) -> list[str]:
    """Open something in a child of ``server``: what broke the promise. Prints what it took."""
    ended = server.run(open_in_way, way, key, base, patience_seconds=patience_seconds)
    outcome, seconds = ended.result or (f"violation: ended with {ended.exit_code}", ended.processor_seconds)
    print(f"{way:14} {key:45} {seconds:6.2f} s {ended.megabytes:7.0f} MB  {outcome[:100]}")
    found = [f"{key}: {outcome}"] if outcome.startswith("violation") else []
    if seconds > most_seconds or ended.megabytes > MOST_MEGABYTES:
        found.append(f"{key}: {seconds:.1f} s of the processor, {ended.megabytes:.0f} MB")
    return found
