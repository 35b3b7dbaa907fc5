"""Files of other programs: told by their tables, opened by a bare path, read only, a key for each row."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import persistkit
from persistkit.arguments import check_key
from persistkit.browser.preview import Value, make_preview
from persistkit.engines import open_engine
from persistkit.errors import ReadOnlyError, StorageError

LANGGRAPH = """
PRAGMA journal_mode=WAL;
CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, value BLOB,
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
"""
OPENAI = """
CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE agent_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT, message_data TEXT,
    created_at TIMESTAMP);
"""
OURS = """
CREATE TABLE persistkit (key BLOB PRIMARY KEY, size, modified, value);
CREATE TABLE persistkit_version (version);
INSERT INTO persistkit_version VALUES (1);
"""
ID = "1f1e8faa-f43e-6d2c-bfff-9b43b810d911"


def write(path: Path, script: str, *rows: tuple[str, tuple[Any, ...]]) -> None:
    """Make tables as the other program makes them, with rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
        for statement, parameters in rows:
            connection.execute(statement, parameters)


def checkpoint(thread: str, namespace: str = "", name: str = ID, state: str = "{}") -> tuple[str, tuple[Any, ...]]:
    """Return a row of LangGraph's, of JSON."""
    statement = "INSERT INTO checkpoints VALUES (?, ?, ?, NULL, 'json', CAST(? AS BLOB), '{\"step\": 1}')"
    return statement, (thread, namespace, name, state)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("spelling", [Path, str, "file://{}".format, "sqlite:///{}".format])
@pytest.mark.parametrize("script", [LANGGRAPH, OPENAI, OURS], ids=["LangGraph", "OpenAI", "ours"])
def test_a_file_is_what_its_tables_say(tmp_path: Path, script: str, spelling: Callable[[Path], str | Path]) -> None:
    """However the address is spelled; another program's file is read only without being asked for it."""
    path = tmp_path / "state.db"
    write(path, script)
    before = contents(tmp_path)
    with open_engine(spelling(path), read_only=script == OURS) as engine:
        shown = {LANGGRAPH: "LangGraphEngine(", OPENAI: "OpenAIAgentsEngine(", OURS: "SQLiteEngine("}[script]
        assert repr(engine) == f"ReadOnlyEngine({shown}'sqlite:///{path}'))"
        assert engine.list_keys() == []
        with pytest.raises(ReadOnlyError, match="copy it first"):
            engine.save("key", b"value")
        assert pickle.loads(pickle.dumps(engine)).key_count() == 0  # noqa: S301 - made here
    assert contents(tmp_path) == before


def test_errors_name_what_was_opened(tmp_path: Path) -> None:
    """The path, also one with a question mark in it, and none of the classes that read it."""
    path = tmp_path / "done?" / "state.db"
    path.parent.mkdir()
    write(path, LANGGRAPH)
    with open_engine(path) as engine:
        write(path, "DROP TABLE writes")
        with pytest.raises(StorageError) as caught:
            engine.list_keys()
        assert str(caught.value) == f"list keys starting with '' in 'sqlite:///{path}': no such table: writes"
        path.unlink()
        with pytest.raises(StorageError) as caught:
            engine.load(f"thread//{ID}")
        assert str(caught.value) == f"load 'thread//{ID}' in 'sqlite:///{path}': there is no such file"


def test_what_is_at_a_path_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory opens whatever it is called; what does not exist is a directory to be, but by the name of a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.db").mkdir()
    assert repr(open_engine("state.db")).startswith("FileEngine(")
    assert repr(open_engine("results", create=True)).startswith("FileEngine(")
    for name in ("new.db", "new.sqlite", "new.SQLITE3"):
        for create in (False, True):
            with pytest.raises(StorageError, match=f"write 'sqlite:///{name}' and create=True"):
                open_engine(name, create=create)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "state.db"]
    with open_engine("sqlite:///new.db", create=True) as engine:
        engine.save("key", b"value")
    with open_engine("new.db") as engine:
        engine.save("more", b"value")
        assert engine.list_keys() == ["key", "more"]


def test_a_file_of_nobody_known_is_named(tmp_path: Path) -> None:
    """A SQLite file with other tables, or none, and a file that is none of SQLite's, are errors that say what is."""
    write(tmp_path / "shop.db", "CREATE TABLE orders (id); CREATE VIEW checkpoints AS SELECT 1 AS thread_id")
    with pytest.raises(StorageError, match="its tables are 'orders'"):
        persistkit.open(tmp_path / "shop.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(StorageError, match="it has no tables"):
        persistkit.open(tmp_path / "empty.db", create=True)
    (tmp_path / "notes.txt").write_text("no database " * 100)
    with pytest.raises(StorageError, match=r"not a database.*open the directory"):
        persistkit.open(tmp_path / "notes.txt")
    write(tmp_path / "state.db", LANGGRAPH)
    (tmp_path / "cut.db").write_bytes((tmp_path / "state.db").read_bytes()[:5_000])
    with pytest.raises(StorageError, match=r"malformed; it is damaged, or cannot be read now$"):
        persistkit.open(tmp_path / "cut.db")
    for address in (tmp_path / "state.db", f"sqlite:///{tmp_path}/state.db"):
        with pytest.raises(StorageError, match="drop create=True"):
            persistkit.open(address, create=True)
        with pytest.raises(TypeError, match="no option 'fsync'"):
            persistkit.open(address, fsync=False)
    assert contents(tmp_path)["empty.db"] == b""


def test_our_tables_come_first(tmp_path: Path) -> None:
    """A file that has our tables too is ours; the other program's are opened by the name of one of them."""
    path = tmp_path / "both.db"
    write(path, LANGGRAPH, checkpoint("t"))
    write(path, OURS)
    for address in (str(path), f"sqlite:///{path}"):
        with persistkit.open(address) as store:
            assert not store.read_only
            assert store.keys() == []
        with persistkit.open(address, table="checkpoints") as store:
            assert store.keys() == [f"t//{ID}"]


THREADS = [
    *("", "a/b", "a%2Fb", "%", "%~", "store", "%73tore", "x\n\x00y", "\x7f\x85", "東京", "..", "a//b", "-1", "x" * 240),
    *("x" * 241, "x" * 500, "x" * 499 + "y", "東" * 300, "/" * 300, "/" * 301, "%" * 90 + "x" * 300),
]


def test_no_two_rows_share_a_key(tmp_path: Path) -> None:
    """Whatever other programs call their threads, every row has a legal key of its own, under which it is found."""
    path = tmp_path / "state.db"
    statement, parameters = checkpoint("?")
    raw = (statement.replace("(?,", "(CAST(x'61ff2f62' AS TEXT),", 1), parameters[1:])
    names = [(thread, namespace) for thread in THREADS for namespace in ("", "node:1|b", "/")]
    write(path, LANGGRAPH, raw, *(checkpoint(*name) for name in names))
    with persistkit.open(path) as store:
        keys = store.keys()
        assert len(set(keys)) == len(keys) == len(names) + 1
        for key in keys:
            check_key(key)
        values = dict(store.items())
        assert {(row["thread_id"], row["checkpoint_ns"]) for row in values.values()} == {*names, ("a\udcff/b", "")}
        for key in keys:
            assert store[key] == values[key]
            assert key in store.keys(key[:9])
        entries = {entry.key: entry.size for entry in store.engine.entries()}
        assert entries == {key: len(store.get_bytes(key)) for key in keys}
        for thread, near in (("a/b", "a%2fb//" + ID), ("%", "%//" + ID), ("store", "store//" + ID)):
            assert thread in THREADS
            assert near not in store


def test_damaged_rows_are_damaged_values(tmp_path: Path) -> None:
    """A payload that cannot be read is told where every other damaged value is, and hides no other row."""
    path = tmp_path / "state.db"
    write(path, LANGGRAPH, checkpoint("bad", state='{"v":'), checkpoint("good", state='{"v": 4}'))
    with persistkit.open(path) as store:
        bad, good = store.keys()
        assert dict(store.items(errors="skip")).keys() == {good}
        assert store.get(bad) == store.get_bytes(bad)
        frame = store.values_frame()
        assert frame["checkpoint.v"].tolist() == [4]
        assert list(frame.attrs["skipped"]) == [bad]
        shown = make_preview(Value.of(store.get_bytes(good), good))
        assert (shown.view, shown.kind.label) == ("json", "LangGraph")
        assert "checkpoint" in json.dumps(shown.body)
        assert "damaged" in make_preview(Value.of(store.get_bytes(bad), bad)).note
        assert store.compare(store).empty


def test_the_items_of_a_session_are_its_json(tmp_path: Path) -> None:
    """An item of the OpenAI Agents SDK's is the very JSON that was stored; keys sort as the items do."""
    path = tmp_path / "state.db"
    text = '{"role": "user",  "content": "\\u00fc"}'
    insert = "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES ('s', ?, '2026-11-25 10:00:00')"
    session = ("INSERT INTO agent_sessions VALUES ('s', '2026-11-25 10:00:00', NULL)", ())
    write(path, OPENAI, session, *[(insert, (text,))] * 11)
    with persistkit.open(path) as store:
        assert store.keys("s/") == [f"s/{number:09}" for number in range(1, 12)]
        assert store.get_bytes("s/000000002") == text.encode()
        assert store["s/000000002"] == {"role": "user", "content": "ü"}
        assert store["sessions/s"]["created_at"] == "2026-11-25 10:00:00"
        assert "s/2" not in store
        assert str(store.to_frame(prefix="s/")["modified"][0]) == "2026-11-25 10:00:00+00:00"
