"""The file engine: one directory, its atomic writes, its owner files, its locks and its check."""

from persistkit.engines.files.check import Finding
from persistkit.engines.files.directory import FileEngine

__all__ = ["FileEngine", "Finding"]
