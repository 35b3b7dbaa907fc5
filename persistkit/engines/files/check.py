"""Check: what is in a directory beside whole values under known keys."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from persistkit.engines.files.atomic import EXHAUSTED, modified_at, read
from persistkit.engines.files.owners import OwnerFiles, is_young, key_in
from persistkit.keys import candidates_of, filename_for, is_filename, owner_filename_for
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
    names: dict[str, os.stat_result] = {}
    findings: list[Finding] = []
    with os.scandir(root) as scan:
        for found in scan:
            try:
                status = found.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_filename(found.name) or _is_owner_file(found.name):
                names[found.name] = status
            elif not stat.S_ISREG(status.st_mode):
                findings.append(_finding("not a regular file", found.name, status))
            elif found.name != LOCKS_FILENAME:
                # Made at once: a million stat results of other programs' files would take half a gigabyte.
                problem: Problem = "temp left behind" if _TEMP.fullmatch(found.name) else "other program's file"
                findings.append(_finding(problem, found.name, status))
    findings += _look(root, owners, names)
    findings.sort(key=lambda finding: finding.filename)
    return [_repaired(root, owners, finding) for finding in findings] if repair else findings


def _look(root: str, owners: OwnerFiles, names: dict[str, os.stat_result]) -> Iterator[Finding]:
    values = []
    for name, status in names.items():
        if not stat.S_ISREG(status.st_mode):
            yield _finding("not a regular file", name, status)
        elif _is_owner_file(name):
            yield from _look_at_owner_file(owners, name, names)
        else:
            values.append(name)
    owned = {name for name in values if owner_filename_for(name) in names and owners.owner_of(name)[0] is not None}
    for candidates in candidates_of([name for name in values if name not in owned]):
        # An owner file precedes its value: one made since the directory was read is there now.
        sure = len(candidates.keys) == 1 and candidates.complete
        if sure or owners.owner_of(candidates.filename)[0] is not None:
            continue
        problem: Problem = "ambiguous" if candidates.keys else "unsolved"
        yield _finding(problem, candidates.filename, names[candidates.filename], *candidates.keys[:1])
    for name in values:
        if not _is_readable(f"{root}/{name}"):
            yield _finding("unreadable", name, names[name])


def _look_at_owner_file(owners: OwnerFiles, owner_name: str, names: dict[str, os.stat_result]) -> Iterator[Finding]:
    status = names[owner_name]
    name = _value_name(owner_name)
    try:
        content = owners.content(owner_name)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        yield _finding("unreadable", owner_name, status)
        return
    if content is None:
        return
    key = key_in(content, name)
    if key is not None:
        if name not in names:
            yield _finding("owner file without value", owner_name, status, key)
    elif _is_torn(content, owner_name):
        yield _finding("torn owner file", owner_name, status)
    else:
        yield _finding("owner file that does not hash to its filename", owner_name, status)


def _value_name(owner_name: str) -> str:
    return owner_name.removesuffix(".key") + ".bin"


def _is_owner_file(name: str) -> bool:
    return name.endswith(".key") and is_filename(_value_name(name))


def _is_torn(content: bytes, owner_name: str) -> bool:
    """Tell whether the content is the beginning of a key with this name: its text agrees as far as it goes."""
    name = filename_for(content.decode(errors="ignore"))
    return owner_name.startswith(name[: -len("-0123456789abcdef.bin")])


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
    if is_young(finding.modified.timestamp()):
        return finding
    if finding.problem == "temp left behind":
        with suppress(FileNotFoundError):
            os.unlink(f"{root}/{finding.filename}")  # noqa: PTH108
        return replace(finding, repaired=True)
    if finding.problem in ("owner file without value", "torn owner file"):
        value = f"{root}/{_value_name(finding.filename)}"
        return replace(finding, repaired=owners.remove(finding.filename, lambda: not os.path.lexists(value)))
    return finding


def _finding(problem: Problem, name: str, status: os.stat_result, key: str | None = None) -> Finding:
    return Finding(problem, name, key, status.st_size, modified_at(status))
