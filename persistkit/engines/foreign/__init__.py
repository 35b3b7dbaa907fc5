"""Which program's database it is, told by its tables: ours, LangGraph's, the OpenAI Agents SDK's."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from persistkit.engines.foreign import langgraph, openai_agents
from persistkit.engines.foreign.rows import RowsEngine, Source, Table
from persistkit.engines.foreign.sqlite import SQLiteSource
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.errors import StorageError

__all__ = ["postgresql_of_another", "sqlite_of_another"]

_LANGGRAPH: Final = (langgraph.LangGraphEngine, langgraph.tables_of)
_OPENAI_AGENTS: Final = (openai_agents.OpenAIAgentsEngine, openai_agents.tables_of)
_OURS: Final = "persistkit"
_TIMEOUT_SECONDS: Final = 30.0
# A server that does not answer is the first operation's to tell.
_LOOK_SECONDS: Final = 5.0


def sqlite_of_another(path: str, *, create: bool, must: bool, options: dict[str, Any]) -> ReadOnlyEngine | None:
    """Return the engine of another program's SQLite file, None where it is ours, or none that is known.

    Args:
        path: of a file that exists, absolute.
        create: refused for another program's file.
        must: the file is to be one that is known.
        options: of the engine.

    Raises:
        StorageError: ``create`` is asked for; or the file ``must`` be known and is not, or cannot be read.
        TypeError: there is an option that the engine does not take.
    """
    address = f"sqlite:///{path}"
    source = SQLiteSource(address, read_only=True, timeout_seconds=options.get("timeout_seconds", _TIMEOUT_SECONDS))
    try:
        found = _tables_in(source)
    except StorageError as error:
        if must:
            advice = "it is damaged, or cannot be read now"
            if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                advice = "a store of files is a directory: open the directory that holds it"
            raise StorageError(f"open {path!r}: {error}; {advice}") from error
        return None
    finally:
        source.close()
    if _is_ours(found, options):
        return None
    for engine, tables_of in (_LANGGRAPH, _OPENAI_AGENTS):
        tables = tables_of(found)
        if _is_meant(tables, options):
            if create:
                raise StorageError(f"open {path!r}: a file of another program, which is only read; drop create=True")
            return _opened(engine(source, tables, address), options)
    if must:
        there = f"its tables are {', '.join(map(repr, sorted(found)))}" if found else "it has no tables"
        raise StorageError(
            f"open {path!r}: it is neither a SQLite file of persistkit's, nor of LangGraph's, nor of the OpenAI Agents "
            f"SDK's: {there}; to keep values in it too, write {address!r} and create=True"
        )
    return None


def postgresql_of_another(address: str, place: str, options: dict[str, Any]) -> ReadOnlyEngine | None:
    """Return the engine of LangGraph's tables on a server; None where there are none, or ours, or no answer.

    Args:
        address: of the server.
        place: how to name it.
        options: of the engine.

    Raises:
        TypeError: there is an option that the engine does not take.
    """
    from persistkit.engines.foreign.postgresql import PostgreSQLSource

    timeout_seconds = options.get("timeout_seconds", _TIMEOUT_SECONDS)
    source = PostgreSQLSource(address, read_only=True, timeout_seconds=timeout_seconds)
    try:
        with PostgreSQLSource(address, read_only=True, timeout_seconds=min(timeout_seconds, _LOOK_SECONDS)) as look:
            found = _tables_in(look)
    except StorageError:
        return None
    tables = langgraph.tables_of(found)
    if _is_ours(found, options) or not _is_meant(tables, options):
        return None
    return _opened(langgraph.LangGraphEngine(source, tables, place), options)


def _tables_in(source: Source) -> dict[str, set[str]]:
    """Return the names of the tables, each with those of its columns; views are none."""
    found: dict[str, set[str]] = {}
    for table, column in source._read("look for tables", source.all_columns):
        found.setdefault(table, set()).add(column)
    return found


def _is_ours(found: Mapping[str, set[str]], options: dict[str, Any]) -> bool:
    return f"{options.get('table', _OURS)}_version".lower() in map(str.lower, found)


def _is_meant(tables: list[Table], options: dict[str, Any]) -> bool:
    return bool(tables) and options.get("table", _OURS) in (_OURS, *(table.name for table in tables))


def _opened(engine: RowsEngine, options: dict[str, Any]) -> ReadOnlyEngine:
    for name in options.keys() - {"table", "timeout_seconds"}:
        raise TypeError(f"{type(engine).__name__} takes no option {name!r}; it takes read_only, table, timeout_seconds")
    return ReadOnlyEngine(engine)
