"""What a newcomer gets wrong in the first hour, and that each error says what to do next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from servers import S3Server, free_port

import persistkit
from persistkit import agents, transfer
from persistkit.engines.memory import MemoryEngine
from persistkit.errors import (
    FormatError,
    InvalidKeyError,
    KeyCollisionError,
    PersistenceError,
    ReadOnlyError,
    StorageError,
)

Mistake = Callable[[persistkit.Store], Any]  # Any: the mistakes do not get so far as to return

OPENED = r"not \w+; .*persistkit\.open"
CREDENTIALS: dict[str, Any] = {"region": "us-east-1", "access_key_id": "k-7", "secret_access_key": "s-7"}


def nowhere() -> str:
    """Return a loopback address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def gone(store: persistkit.Store) -> None:
    """Use a store whose directory was removed."""
    shutil.rmtree(store.address)
    store["run/1"]


def damaged(store: persistkit.Store) -> None:
    """Load what was cut on disk."""
    store.put_bytes("run/1", b"\x93NUMPY cut")
    store["run/1"]


def collision(store: persistkit.Store) -> None:
    """Save two keys that share a filename."""
    store["<|im_start|>"] = 1
    store[">:im_start|>"] = 2


def copied_twice(store: persistkit.Store) -> None:
    """Copy to where the values are already."""
    with persistkit.open("memory:") as other:
        store.copy_to(other, progress=False)
        failures = store.copy_to(other, progress=False).failures
    raise failures["run/1"]


PLACES: dict[str, tuple[Mistake, type[Exception], str]] = {
    "a mistyped path": (lambda _: persistkit.open("reslts"), StorageError, r"there is 'results'.*create=True"),
    "a mistyped directory": (
        lambda _: persistkit.FilePersistenceBackend("reslts"),
        StorageError,
        "check the path, or pass create=True",
    ),
    "a file": (lambda _: persistkit.open("notes.txt"), StorageError, "open the directory that holds it"),
    "a new store where a file is": (
        lambda _: persistkit.open("notes.txt", create=True),
        StorageError,
        "open the directory that holds it",
    ),
    "a new store, read only": (
        lambda _: persistkit.open("new", create=True, read_only=True),
        ValueError,
        "drop create=True",
    ),
    "no path": (lambda _: persistkit.open(""), ValueError, r"write a path, such as 'results', or '\.'"),
    "no text": (lambda _: persistkit.open(None), TypeError, "an address is text or a path, such as 'results'"),  # type: ignore[arg-type]
    "a directory that is gone": (gone, StorageError, "check the path, or pass create=True"),
    "a SQLite file that is not there": (
        lambda _: persistkit.open("sqlite:///state.db"),
        StorageError,
        "no such file; pass create=True",
    ),
    "a directory for SQLite": (
        lambda _: persistkit.open("sqlite:///results", create=True),
        StorageError,
        "this is a directory; name a file in it",
    ),
    "a SQLite file in no directory": (
        lambda _: persistkit.open("sqlite:///nowhere/state.db", create=True),
        StorageError,
        "there is no directory '.*nowhere'; make it first",
    ),
    "a file that SQLite did not write": (
        lambda _: persistkit.open("sqlite:///notes.txt")["run/1"],
        StorageError,
        "not a database; name another",
    ),
    "a port that is no number": (
        lambda _: persistkit.open("postgresql://host:port/db"),
        ValueError,
        "host:port/database, the port a number",
    ),
    "two slashes for SQLite": (lambda _: persistkit.open("sqlite://state.db"), ValueError, "sqlite:///state.db"),
    "no slash for SQLite": (
        lambda _: persistkit.open("sqlite:state.db"),
        ValueError,
        "names a file, sqlite:///state.db",
    ),
    "a mistyped scheme": (lambda _: persistkit.open("postgre://host/db"), StorageError, "did you mean 'postgres://'"),
    "an unknown scheme": (lambda _: persistkit.open("http://host/x"), StorageError, "write a path or one of file:"),
    "no bucket": (lambda _: persistkit.open("s3:bucket"), ValueError, "s3://bucket/prefix"),
    "no host": (lambda _: persistkit.open("redis:localhost"), ValueError, "redis://host:6379/0"),
    "a mistyped read_only": (
        lambda _: persistkit.open("results", readonly=True),  # type: ignore[call-arg]
        TypeError,
        "did you mean 'read_only'",
    ),
    "a mistyped option": (lambda _: persistkit.open("results", fsnc=False), TypeError, "did you mean 'fsync'"),  # type: ignore[call-arg]
    "an option of another engine": (
        lambda _: persistkit.open("sqlite:///x.db", create=True, fsync=False),
        TypeError,
        "it takes create, read_only, table, timeout_seconds",
    ),
    "an option obstore has not": (
        lambda _: persistkit.open("s3://bucket", regin="x"),  # type: ignore[call-arg]
        ValueError,
        "regin.*options are those of obstore, such as endpoint, region",
    ),
    "an endpoint without scheme": (
        lambda _: persistkit.open("s3://bucket", endpoint="localhost:9000", **CREDENTIALS),
        ValueError,
        "write https://localhost:9000",
    ),
}
SERVERS: dict[str, tuple[Mistake, type[Exception], str]] = {
    "no PostgreSQL": (
        lambda _: persistkit.open(f"postgresql://me@{nowhere()}/db", timeout_seconds=5)["run/1"],
        StorageError,
        "(?s)127.0.0.1.*Is the server running",
    ),
    "no Redis": (
        lambda _: persistkit.open(f"redis://{nowhere()}", timeout_seconds=5)["run/1"],
        StorageError,
        r"127\.0\.0\.1.*look whether the server is up",
    ),
    "no S3": (
        lambda _: persistkit.open("s3://b", endpoint=f"http://{nowhere()}", timeout_seconds=5, **CREDENTIALS)["run/1"],
        StorageError,
        r"127\.0\.0\.1.*look whether the server is up",
    ),
    "no credentials": (
        # The service that gives a cloud machine its credentials is looked for on loopback here.
        lambda _: persistkit.open(  # type: ignore[call-arg]
            "s3://b", region="us-east-1", metadata_endpoint=f"http://{nowhere()}", timeout_seconds=5
        )["run/1"],
        StorageError,
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
}
KEYS: dict[str, tuple[Mistake, type[Exception], str]] = {
    "a mistyped key": (lambda store: store["run/2"], KeyError, "Did you mean 'run/1'"),
    "a key that is not there": (lambda store: store["nothing like it"], KeyError, r"keys\(\) lists what is there"),
    "deleting what is not there": (lambda store: store.pop("rum/1"), KeyError, "Did you mean 'run/1'"),
    "a number as a key": (lambda store: store[1], InvalidKeyError, r"write str\(key\)"),  # type: ignore[index]
    "a number as a new key": (lambda store: store.__setitem__(1, {}), InvalidKeyError, r"write str\(key\)"),  # type: ignore[index]
    "bytes as a key": (lambda store: store[b"run/1"], InvalidKeyError, r"write key\.decode\(\)"),  # type: ignore[index]
    "a key too long": (lambda store: store.update({"k" * 1025: 1}), InvalidKeyError, "1,024 UTF-8 bytes.*shorten it"),
    "one key for many": (lambda store: store.load_many("run/1"), TypeError, r"write keys=\['run/1'\]"),
    "keys without values": (lambda store: store.update(["run/1"]), TypeError, "pairs of key and value, not 'run/1'"),
    "keys without values for an engine": (
        lambda store: store.engine.batch_save(["run/1"]),  # type: ignore[list-item]
        TypeError,
        "pairs of key and value, not 'run/1'",
    ),
    "a list as a pattern": (
        lambda store: store.values_frame(["run/1"]),  # type: ignore[arg-type]
        TypeError,
        r"one pattern, such as 'run/\*'.*keys=\[",
    ),
    "two keys of one name": (collision, KeyCollisionError, "choose another key"),
}
VALUES: dict[str, tuple[Mistake, type[Exception], str]] = {
    "a counter": (lambda store: store.update(x=Counter("ab")), FormatError, r"'x'.*store dict\(value\)"),
    "an object": (lambda store: store.update(x={"f": print}), FormatError, r"\$\.f.*store text, numbers"),
    "a missing value of pandas": (lambda store: store.update(x=[pd.NA]), FormatError, r"\$\[0\].*store None"),
    "a table in a dict": (
        lambda store: store.update(x={"table": pd.DataFrame()}),
        FormatError,
        r"\$\.table.*store it under a key of its own",
    ),
    "an array of objects": (
        lambda store: store.update(x=np.array([{}], dtype=object)),
        FormatError,
        "convert it to numbers or fixed-width text",
    ),
    "text as bytes": (lambda store: store.put_bytes("x", "text"), TypeError, r"value\.encode\(\)"),  # type: ignore[arg-type]
    "a dict as bytes": (
        lambda store: store.engine.save("x", {"a": 1}),  # type: ignore[arg-type]
        TypeError,
        r"json\.dumps\(value\)\.encode\(\)",
    ),
    "a damaged value": (damaged, FormatError, r"damaged npy.*get_bytes\('run/1'\) gives the bytes"),
    "a value that is there": (copied_twice, PersistenceError, "write overwrite='skip' or overwrite='replace'"),
}
OBJECTS: dict[str, tuple[Mistake, type[Exception], str]] = {
    "writing read only": (
        lambda _: persistkit.open("results", read_only=True).update(x=1),
        ReadOnlyError,
        "open it without read_only=True",
    ),
    "a path for a browser": (lambda _: persistkit.browse("results"), TypeError, OPENED),
    "a path for a table": (lambda _: persistkit.to_frame("results"), TypeError, OPENED),  # type: ignore[arg-type]
    "a path for Store": (lambda _: persistkit.Store("results"), TypeError, OPENED),  # type: ignore[arg-type]
    "a path to copy to": (lambda store: store.copy_to("other"), TypeError, OPENED),  # type: ignore[arg-type]
    "a path to compare": (lambda store: store.compare("other"), TypeError, OPENED),  # type: ignore[arg-type]
    "a path to copy from": (lambda store: transfer.copy(Path("other"), store), TypeError, OPENED),  # type: ignore[arg-type]
    "a path for the sessions": (lambda _: agents.sessions_frame("results"), TypeError, OPENED),  # type: ignore[arg-type]
    "a dict for a store": (lambda _: persistkit.Store({"a": 1}), TypeError, "not dict.*open.* returns a store"),  # type: ignore[arg-type]
    "a class for an engine": (lambda _: persistkit.Store(MemoryEngine), TypeError, "not "),  # type: ignore[arg-type]
    "awaiting a table": (
        lambda store: asyncio.run(persistkit.to_frame(store)),  # type: ignore[arg-type]
        ValueError,
        "coroutine",
    ),
    "an engine's method on a store": (
        lambda store: store.save("x", b"1"),  # type: ignore[attr-defined]
        AttributeError,
        r"like a dict: store\[key\].*store\.engine\.save\(",
    ),
    "another word for errors": (lambda store: store.items(errors="ignore"), ValueError, "'raise', 'skip' or 'bytes'"),  # type: ignore[arg-type]
    "a format there is not": (
        lambda store: store.load("run/1", "yaml"),
        ValueError,
        "no format 'yaml'; there are json",
    ),
    "a copy onto itself": (lambda store: store.copy_to(store), ValueError, "open another place to copy to"),
    "a mistyped name": (lambda _: persistkit.Stroe, AttributeError, "it offers.*Store"),
}
MISTAKES = PLACES | SERVERS | KEYS | VALUES | OBJECTS


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[persistkit.Store]:
    """A store with one run, in the working directory, and a file beside it; no credentials in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "PGPASSWORD", "REDISCLI_AUTH"):
        monkeypatch.delenv(name, raising=False)
    Path("notes.txt").write_text("no directory")
    with persistkit.open(tmp_path / "results", create=True) as store:
        store["run/1"] = {"loss": 0.25}
        yield store


@pytest.mark.parametrize(("mistake", "kind", "advice"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_says_what_to_do_next(
    store: persistkit.Store, mistake: Mistake, kind: type[Exception], advice: str
) -> None:
    """The error has its own type, and its text tells the next step; no secret is told, and nothing is made."""
    before = sorted(path.name for path in Path().iterdir())
    with pytest.raises(kind, match=advice) as caught:
        mistake(store)
    assert "s-7" not in str(caught.value)
    assert {path.name for path in Path().iterdir()} <= set(before)


EXTRAS = {
    "agents": ("msgpack", "from persistkit.formats.langgraph import decode_payload as d; d('msgpack', b'')"),
    "postgresql": ("psycopg", "persistkit.open('postgresql://me@host/db')['x']"),
    "redis": ("redis", "persistkit.open('redis://host')"),
    "s3": ("obstore", "persistkit.open('s3://bucket')"),
}


@pytest.mark.parametrize(("extra", "package", "line"), [(extra, *rest) for extra, rest in EXTRAS.items()], ids=EXTRAS)
def test_a_missing_extra_is_named(extra: str, package: str, line: str, tmp_path: Path) -> None:
    """Without an engine's package the error is the line that installs it."""
    # None in sys.modules is how Python itself marks what cannot be imported.
    script = f"import sys; sys.modules[{package!r}] = None; sys.path[:0] = {sys.path!r}; import persistkit; {line}"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert f'pip install "persistkit[{extra}]"' in finished.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_says_so(s3_server: S3Server) -> None:
    """What a real server answers is told without its markup, with the next step."""
    options: dict[str, Any] = dict(s3_server.options)
    with pytest.raises(StorageError, match=r"404 Not Found; make the bucket first, or check its name$"):
        persistkit.open("s3://no-such-bucket", **options)["run/1"]


def test_without_a_kernel_the_browser_says_to_run_the_cell(store: persistkit.Store) -> None:
    """What a saved notebook shows of a browser holds the rows, and the step that brings it to life."""
    browser = store.browse()
    assert browser.wait(timeout_seconds=60)
    shown = browser._repr_mimebundle_()
    html = (shown[0] if isinstance(shown, tuple) else shown)["text/html"]
    assert "run/1" in html
    assert "Run the cell to browse" in html
    with contextlib.closing(browser):
        assert repr(browser).startswith("KeyBrowser(")


NOTEBOOK = """
import contextlib, io, json, sys, traceback
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="nocolor", history_length=0)
shell.run_cell("import persistkit; store = persistkit.open('results', create=True)")
shown = []
for cell in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as page:
        error = shell.run_cell(cell).error_in_exec
    trace = traceback.format_exception(type(error), error, error.__traceback__.tb_next)  # without IPython's own entry
    shown.append([str(error), page.getvalue(), "".join(trace)])
print(json.dumps(shown))
"""


def test_a_mistake_does_not_fill_the_screen(tmp_path: Path) -> None:
    """A traceback has at most 15 lines, and in a notebook they are the cell's own and the error's text."""
    cells = [
        "store['run/1'] = {'parts': [{'made': object()}]}",
        "store['missing']",
        "store['a.npy']",
        "persistkit.open('results', read_only=True)['run/1'] = 1",
        "list(store.values())",
        "store.update({'run/1': {'loss': 0.5},\n    'run/2': print})",
    ]
    persistkit.open(tmp_path / "results", create=True).put_bytes("a.npy", b"\x93NUMPY cut")
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}" + NOTEBOOK, json.dumps(cells)]
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    for cell, (text, page, trace) in zip(cells, json.loads(run.stdout), strict=True):
        assert text in page, page
        assert cell.splitlines()[-1].strip() in page
        assert "site-packages" not in page
        assert "mapping.py" not in page
        assert len(page.splitlines()) <= 15, page
        assert len([line for line in trace.splitlines() if line.strip(" ~^")]) <= 15, trace  # but for the marks
