"""SQLite: the engine on a file, and how another program's file is read without changing it."""

from persistkit.engines.sqlite.engine import SQLiteEngine
from persistkit.engines.sqlite.read_only import ReadOnlyDatabase

__all__ = ["ReadOnlyDatabase", "SQLiteEngine"]
