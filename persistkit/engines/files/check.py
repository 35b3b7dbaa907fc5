"""check: what is in a directory beside whole values under known keys."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from persistkit.backends.claims import is_young
from persistkit.backends.files import EXHAUSTED, modified_at
from persistkit.filenames import claim_name_for, filename_for, is_filename, keys_for

if TYPE_CHECKING:
    from persistkit.backends.directory import Directory

__all__ = ["Finding", "Problem", "check"]

Problem = Literal[
    "temp left behind",
    "claim without value",
    "torn claim",
    "claim that does not hash to its filename",
    "ambiguous",
    "foreign file",
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


def check(directory: Directory, repair: bool) -> list[Finding]:
    """Return one finding a problem, sorted by filename; see ``FilePersistenceBackend.check``."""
    with directory.errors("check"):
        names: dict[str, os.stat_result] = {}
        findings: list[Finding] = []
        with os.scandir(directory.base_dir) as scan:
            for found in scan:
                try:
                    status = found.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if is_filename(found.name) or _is_claim(found.name):
                    names[found.name] = status
                else:  # at once: a million foreign names would keep half a gigabyte of stat results
                    findings.append(_of_no_key(found.name, status))
        findings += _look(directory, names)
        findings.sort(key=lambda finding: finding.filename)
        return [_repaired(directory, finding) for finding in findings] if repair else findings


def _look(directory: Directory, names: dict[str, os.stat_result]) -> Iterator[Finding]:
    values = []
    for name, status in names.items():
        if _is_claim(name):
            yield from _look_at_claim(directory, name, names)
        elif stat.S_ISREG(status.st_mode):
            values.append(name)
        else:
            yield _finding("not a regular file", name, status)
    claimed = {name for name in values if claim_name_for(name) in names and directory.claimed_key(name)[0] is not None}
    for reading in keys_for([name for name in values if name not in claimed]):
        # A claim precedes its value: one made since the directory was read is there now.
        if len(reading.keys) != 1 and directory.claimed_key(reading.filename)[0] is not None:
            continue
        status = names[reading.filename]
        if len(reading.keys) > 1:
            yield _finding("ambiguous", reading.filename, status, reading.keys[0])
        elif not reading.keys:
            yield _finding("unsolved", reading.filename, status)
    for name in values:
        if not _is_readable(directory, name):
            yield _finding("unreadable", name, names[name])


def _of_no_key(name: str, status: os.stat_result) -> Finding:
    if not stat.S_ISREG(status.st_mode):
        return _finding("not a regular file", name, status)
    return _finding("temp left behind" if _TEMP.fullmatch(name) else "foreign file", name, status)


def _look_at_claim(directory: Directory, companion: str, names: dict[str, os.stat_result]) -> Iterator[Finding]:
    status = names[companion]
    if not stat.S_ISREG(status.st_mode):
        yield _finding("not a regular file", companion, status)
        return
    name = companion.removesuffix(".key") + ".bin"
    try:
        content = directory.claims.content(companion)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        yield _finding("unreadable", companion, status)
        return
    if content is None:
        return
    try:
        key = content.decode()
    except UnicodeDecodeError:
        key = ""
    if filename_for(key) == name and content:
        if name not in names:
            yield _finding("claim without value", companion, status, key)
    elif _is_torn(content, companion):
        yield _finding("torn claim", companion, status)
    else:
        yield _finding("claim that does not hash to its filename", companion, status)


def _is_claim(name: str) -> bool:
    return name.endswith(".key") and is_filename(name.removesuffix(".key") + ".bin")


def _is_torn(content: bytes, companion: str) -> bool:
    """Tell whether the content is the beginning of a key with this name: its text agrees as far as it goes."""
    name = filename_for(content.decode(errors="ignore"))
    text = name[: -len("-0123456789abcdef.bin")]
    return companion.startswith(text)


def _is_readable(directory: Directory, name: str) -> bool:
    try:
        opened = directory.open_regular(name)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return False
    if opened is not None:
        os.close(opened[0])
    return True


def _repaired(directory: Directory, finding: Finding) -> Finding:
    if is_young(finding.modified.timestamp()):
        return finding
    if finding.problem == "temp left behind":
        with suppress(FileNotFoundError):
            os.unlink(directory.path_of(finding.filename))  # noqa: PTH108 - a str path, as everywhere on this path
        return replace(finding, repaired=True)
    if finding.problem in ("claim without value", "torn claim"):
        value = directory.path_of(finding.filename.removesuffix(".key") + ".bin")
        gone = directory.claims.remove(finding.filename, lambda: not os.path.lexists(value))
        return replace(finding, repaired=gone)
    return finding


def _finding(problem: Problem, name: str, status: os.stat_result, key: str | None = None) -> Finding:
    return Finding(problem, name, key, status.st_size, modified_at(status))
