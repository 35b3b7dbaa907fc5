"""Check: what is in a directory beside whole values under known keys."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from persistkit.engines.files.atomic import EXHAUSTED, modified_at, read
from persistkit.engines.files.listing import keys_of
from persistkit.engines.files.owners import OwnerFiles, is_young, key_in
from persistkit.keys import filename_for, is_filename, is_owner_filename
from persistkit.locking import LOCKS_FILENAME

__all__ = ["Finding", "Problem", "check"]

Problem = Literal[
    "temp left behind",
    "owner file without value",
    "torn owner file",
    "owner file that does not hash to its filename",
    "ambiguous",
    "other program's file",
    "unreadable",
    "not a regular file",
    "unsolved",
]

# Ours, and the Rust runtime's.
_TEMP: Final = re.compile(r"\.persistkit-[0-9a-f]{32}\.tmp|.*-[0-9a-f]{16}\.tmp-[0-9a-f]{32}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one file.

    Attributes:
        problem: what is wrong, one of a fixed set of texts.
        filename: the file's name in the directory.
        key: the key it belongs to, where that is known.
        size: of the file, in bytes.
        modified: when the file was last written, aware and in UTC.
        repaired: the file was removed.
    """

    problem: Problem
    filename: str
    key: str | None
    size: int
    modified: datetime
    repaired: bool = False


def check(root: str, owners: OwnerFiles, *, repair: bool) -> list[Finding]:
    """Return one finding per problem, sorted by filename; see ``FileEngine.check``."""
    values: dict[str, os.stat_result] = {}
    owner_files: dict[str, os.stat_result] = {}
    findings: list[Finding] = []
    with os.scandir(root) as scan:
        for found in scan:
            try:
                status = found.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(status.st_mode):
                findings.append(_finding("not a regular file", found.name, status))
            elif is_filename(found.name):
                values[found.name] = status
            elif is_owner_filename(found.name):
                owner_files[found.name] = status
            elif found.name != LOCKS_FILENAME:
                # Made at once: a million stat results of other programs' files would take half a gigabyte.
                problem: Problem = "temp left behind" if _TEMP.fullmatch(found.name) else "other program's file"
                findings.append(_finding(problem, found.name, status))
    for owner_name, status in owner_files.items():
        name = _value_name(owner_name)
        found_problem, key = _look_at_owner_file(owners, name, has_value=name in values)
        if found_problem is not None:
            findings.append(_finding(found_problem, owner_name, status, key))
    for name, key, ambiguous in keys_of(values, owner_files, owners):
        if key is None or ambiguous:
            findings.append(_finding("ambiguous" if ambiguous else "unsolved", name, values[name], key))
    findings += [_finding("unreadable", name, values[name]) for name in values if not _is_readable(f"{root}/{name}")]
    findings.sort(key=lambda finding: finding.filename)
    return [_repaired(root, owners, finding) for finding in findings] if repair else findings


def _look_at_owner_file(owners: OwnerFiles, name: str, *, has_value: bool) -> tuple[Problem | None, str | None]:
    try:
        content = owners.content(name)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return "unreadable", None
    key = key_in(content, name)
    if content is None or (key is not None and has_value):
        return None, None
    if key is not None:
        return "owner file without value", key
    # A torn one holds the beginning of a key with this name: its text agrees as far as it goes.
    beginning = filename_for(content.decode(errors="ignore"))[: -len("-0123456789abcdef.bin")]
    return "torn owner file" if name.startswith(beginning) else "owner file that does not hash to its filename", None


def _value_name(owner_name: str) -> str:
    return owner_name.removesuffix(".key") + ".bin"


def _is_readable(path: str) -> bool:
    try:
        return read(path, lambda *_: True)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return False


def _repaired(root: str, owners: OwnerFiles, finding: Finding) -> Finding:
    repaired = False
    if finding.problem == "temp left behind" and not is_young(finding.modified.timestamp()):
        with suppress(FileNotFoundError):
            os.unlink(f"{root}/{finding.filename}")  # noqa: PTH108
        repaired = True
    elif finding.problem in ("owner file without value", "torn owner file"):
        repaired = owners.remove_dead(_value_name(finding.filename))
    return replace(finding, repaired=repaired)


def _finding(problem: Problem, name: str, status: os.stat_result, key: str | None = None) -> Finding:
    return Finding(problem, name, key, status.st_size, modified_at(status))
