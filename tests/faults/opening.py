"""Opens values of strangers, each in a process of its own, and measures it: a program, told what to open by its input.

A way of opening yields after each of its steps. Each line of input is JSON, ``[way, key, path of a directory, patience
in seconds]``; each line of output tells the last step's outcome, the seconds of the processor that the longest step
took, and the megabytes that the process had at most.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import product

import ipywidgets  # type: ignore[import-untyped]  # noqa: F401 - here and not in each process: what is imported once is not measured
import numpy as np
import pandas as pd
import pyarrow.compute  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401

import persistkit
from persistkit import BlockingBackend, FilePersistenceBackend
from persistkit.browser import KeyBrowser
from persistkit.errors import BatchError, FormatError, KeyCollisionError, StorageError

_MOST_BYTES = 3 * 1024**3
_MOST_SECONDS = 60
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
    browser = KeyBrowser(FilePersistenceBackend(base))
    assert browser.wait(timeout_seconds=30)
    row = next(row for row in browser.handle({"op": "page", "limit": 250})[0]["rows"] if row[1] == key)[0]
    for kind, more in product(_KINDS, (False, True)):
        request = {"op": "preview", "row": row, "revision": 1, "kind": kind, "more": more}
        answer, _ = browser.handle(request)
        assert len(json.dumps(answer, allow_nan=False)) < _MESSAGE_CHARACTERS
        shown = str(answer["preview"]["kind"] if "preview" in answer else answer["error"])
        assert shown in _KINDS, shown
        yield shown


def in_directory(_key: str, base: str) -> Iterator[str]:
    """List, frame, check and show a directory, and look at every entry: nothing hangs, only true keys are listed."""
    with persistkit.open(base, create=True, fsync=False) as store:
        backend = store.backend
        assert isinstance(backend, FilePersistenceBackend)
        store.put_bytes("good", b"good")
        keys = store.keys()
        assert set(keys) <= set(TRUE_KEYS), keys
        assert store.get_bytes("good") == b"good"
        assert len(store.to_frame()) >= len(keys)
        assert len(store._repr_html_()) < _MESSAGE_CHARACTERS
        store.usage()
        findings = BlockingBackend(backend).call(backend.check)
        browser = KeyBrowser(backend)
        assert browser.wait(timeout_seconds=_MOST_SECONDS)
        rows = browser.handle({"op": "page", "limit": 50})[0]["rows"]
        for row in rows:
            answer, _ = browser.handle({"op": "preview", "row": row[0], "revision": 1})
            assert "preview" in answer or answer["error"], answer
        yield f"{len(keys)} keys, {len(findings)} findings, {len(rows)} rows"


def in_odd_files(key: str, base: str) -> Iterator[str]:
    """Do everything to one key under which something lies that is no value: an error or an answer, at once."""
    backend = BlockingBackend(FilePersistenceBackend(base, fsync=False))
    answers = []
    assert not (key.startswith("value/") and backend.exists(key)), "what is no file is taken for a value"
    works: list[Callable[[], object]] = [
        lambda: backend.load(key),
        lambda: backend.exists(key),
        lambda: backend.batch_load([key]),
        lambda: _read_to_the_end(backend, key),
        lambda: backend.delete(key),
        lambda: backend.save(key, b"new"),
        lambda: backend.load(key),
        lambda: backend.list_keys(),
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


def _read_to_the_end(backend: BlockingBackend, key: str) -> int:
    with backend.open_reader(key) as reader:
        size = 0
        while reader is not None and (chunk := reader.read(MEBI)):
            never_from_outside(chunk)
            size += len(chunk)
        return size


def full_of_strangers(count: str, base: str) -> Iterator[str]:
    """Fill a directory with so many foreign files, one in ten of a value's shape."""
    directory = os.open(base, os.O_RDONLY)
    for number in range(int(count)):
        strange = (
            f"notes-{number:07}.txt" if number % 10 else f"a_{number}_b-{number * 7919 * 1000003 % 2**64:016x}.bin"
        )
        os.mknod(strange, 0o600, dir_fd=directory)
    yield count


def in_strangers(key: str, base: str) -> Iterator[str]:
    """Find the one value among strangers, in each way."""
    with persistkit.open(base, fsync=False) as store:
        backend = store.backend
        assert isinstance(backend, FilePersistenceBackend)
        store.put_bytes(key, b"good")
        took = []
        works: list[Callable[[], bool]] = [
            lambda: store.get_bytes(key) == b"good",
            lambda: store.keys("go") == [key],
            lambda: key in set(store.to_frame()["key"]),
            lambda: bool(BlockingBackend(backend).call(backend.check)),
            lambda: _listed(backend, key),
        ]
        for work in works:
            started = time.perf_counter()
            assert work()
            took.append(f"{time.perf_counter() - started:.1f} s")
        yield f"load, list, frame, check, browser: {', '.join(took)}"


def _listed(backend: FilePersistenceBackend, key: str) -> bool:
    browser = KeyBrowser(backend)
    assert browser.wait(timeout_seconds=_MOST_SECONDS)
    (row,) = browser.handle({"op": "page", "query": key, "match": "prefix"})[0]["rows"]
    return "preview" in browser.handle({"op": "preview", "row": row[0], "revision": 1})[0]


def strangers_held(_key: str, base: str) -> Iterator[str]:
    """The control: hold what the system says of each file."""
    yield str(len([(entry.name, entry.stat()) for entry in os.scandir(base)]))


def without_care(key: str, base: str) -> Iterator[str]:
    """The control: open the value as everybody does."""
    data = BlockingBackend(FilePersistenceBackend(base)).load(key) or b""
    if data.startswith(b"PAR1"):
        value: object = pd.read_parquet(BytesIO(data))
    elif data.startswith(b"\x93NUMPY"):
        value = np.load(BytesIO(data), allow_pickle=True)
    else:
        value = pd.json_normalize(json.loads(data))
    yield str(value)


def without_a_look(key: str, base: str) -> Iterator[str]:
    """The control: read a file as everybody does."""
    content = FilePersistenceBackend(base).path_for(key).read_bytes()
    never_from_outside(content)
    yield str(len(content))


WAYS: dict[str, Callable[[str, str], Iterator[str]]] = {
    way.__name__: way
    for way in (
        in_store, in_table, in_browser, in_directory, in_odd_files, in_strangers,
        full_of_strangers, strangers_held, without_care, without_a_look,
    )
}  # fmt: skip


def child(way: str, key: str, base: str, patience_seconds: int, answer: int) -> None:
    """Open one value, and write the outcome and the seconds of the longest step."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(patience_seconds)
    outcome, longest, began = "violation: nothing was done", 0.0, time.process_time()
    try:
        for step in WAYS[way](key, base):
            outcome = step
            longest, began = max(longest, time.process_time() - began), time.process_time()
    except BaseException as error:
        outcome = f"violation: {type(error).__name__}: {str(error)[:300]}"
        longest = max(longest, time.process_time() - began)
    os.write(answer, json.dumps([outcome, longest]).encode())
    os._exit(0)


def measured(way: str, key: str, base: str, patience_seconds: int) -> tuple[str, float, float]:
    """Open one value in a process of its own; outcome, seconds of the processor, megabytes."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        child(way, key, base, patience_seconds, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer = answers.read()
    _, status, usage = os.wait4(process, 0)
    megabytes = usage.ru_maxrss * 1024 / 1e6
    if status:
        ended = os.waitstatus_to_exitcode(status)
        return f"violation: ended with {ended}", usage.ru_utime + usage.ru_stime, megabytes
    outcome, seconds = json.loads(answer)
    return outcome, seconds, megabytes


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(measured(*json.loads(line))), flush=True)
