"""Keys and filenames: the rule from a key to its filename, and the way back."""

from __future__ import annotations

from persistkit.keys.filenames import (
    KeyCandidates,
    alternatives,
    candidates_as_found,
    candidates_of,
    filename_for,
    is_filename,
    is_owner_filename,
    needs_owner_file,
    owner_filename_for,
    place_for,
)

__all__ = [
    "KeyCandidates",
    "alternatives",
    "candidates_as_found",
    "candidates_of",
    "filename_for",
    "is_filename",
    "is_owner_filename",
    "needs_owner_file",
    "owner_filename_for",
    "place_for",
]
