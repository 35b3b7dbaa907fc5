"""Which program's database it is, told by its tables: ours, LangGraph's, the OpenAI Agents SDK's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from persistkit.engines.foreign.langgraph import LangGraphEngine
from persistkit.engines.foreign.openai_agents import OpenAIAgentsEngine
from persistkit.engines.foreign.rows import RowsEngine, Source
from persistkit.engines.foreign.sqlite import SQLiteSource
from persistkit.engines.read_only import ReadOnlyEngine
from persistkit.errors import StorageError

__all__ = ["postgresql_of_another", "sqlite_of_another"]

_OURS: Final = "persistkit"
_TIMEOUT_SECONDS: Final = 30.0
# A server that does not answer is the first operation's to tell.
_LOOK_SECONDS: Final = 5.0


def sqlite_of_another(path: str, *, create: bool, must: bool, options: dict[str, Any]) -> ReadOnlyEngine | None:
    """Return the engine of another program's SQLite file, None where it is ours, or none that is known.

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
    engine = _engine_of(source, found, (LangGraphEngine, OpenAIAgentsEngine), options)
    if engine is not None and create:
        raise StorageError(f"open {path!r}: a file of another program, which is only read; drop create=True")
    if engine is None and must and not _is_ours(found, options):
        there = f"its tables are {', '.join(map(repr, sorted(found)))}" if found else "it has no tables"
        raise StorageError(
            f"open {path!r}: it is neither a SQLite file of persistkit's, nor of LangGraph's, nor of the OpenAI Agents "
            f"SDK's: {there}; to keep values in it too, write {address!r} and create=True"
        )
    return engine


def postgresql_of_another(address: str, options: dict[str, Any]) -> ReadOnlyEngine | None:
    """Return the engine of LangGraph's tables on a server; None where there are none, or ours, or no answer.

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
    return _engine_of(source, found, (LangGraphEngine,), options)


def _tables_in(source: Source) -> dict[str, set[str]]:
    """Return the names of the tables, each with those of its columns; views are none."""
    found: dict[str, set[str]] = {}
    for table, column in source._read("look for tables", source.all_columns):
        found.setdefault(table, set()).add(column)
    return found


def _is_ours(found: Mapping[str, set[str]], options: dict[str, Any]) -> bool:
    return f"{options.get('table', _OURS)}_version".lower() in map(str.lower, found)


def _engine_of(
    source: Source, found: Mapping[str, set[str]], engines: Iterable[type[RowsEngine]], options: dict[str, Any]
) -> ReadOnlyEngine | None:
    for engine in engines:
        tables = engine.tables_of(found)
        meant = (_OURS, *(table.name for table in tables))
        if tables and options.get("table", _OURS) in meant and not _is_ours(found, options):
            for name in options.keys() - {"table", "timeout_seconds"}:
                raise TypeError(
                    f"{engine.__name__} takes no option {name!r}; it takes read_only, table, timeout_seconds"
                )
            return ReadOnlyEngine(engine(source, tables))
    return None
