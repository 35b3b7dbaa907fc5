"""Deeds: what is done to a directory while something fails, and how its outcome is judged."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from persistkit import FilePersistenceBackend
from persistkit.backends.directory import Directory
from persistkit.errors import BatchError, PersistenceError
from persistkit.filenames import claim_name_for, filename_for, needs_claim

from .broken import Blind, Clumsy, Copying, Deaf, Forgetful, Hopeful, Late

OLD, NEW = b"old " * 100, b"new value " * 2_400
KEY, OTHER, CLAIMED, TWIN = "session:1", "session:2", "a?>", "a>_"
BYSTANDER = "kept"

Values: TypeAlias = dict[str, bytes | None]
_NO_KEY = re.compile("(list|count|check) ")
_TEMP = re.compile(r"\.persistkit-[0-9a-f]{32}\.tmp")


@dataclass(frozen=True, slots=True)
class Deed:
    """One operation of the file backend on a prepared directory.

    Attributes:
        name: what it is called in the table.
        before: the values it finds, None for none.
        after: the values when it has gone well.
        act: carries it out.
        broken: writers whose flaw it must show when a call fails.
    """

    name: str
    before: Values
    after: Values
    act: Callable[[FilePersistenceBackend, asyncio.Runner], object]
    broken: tuple[type[Directory], ...]

    def prepare(self, base: Path) -> None:
        """Make the directory with the values from before."""
        stored: dict[str, bytes | bytearray | memoryview] = {BYSTANDER: b"kept"}
        stored |= {key: value for key, value in self.before.items() if value is not None}
        FilePersistenceBackend(base, create=True, fsync=False).blocking_core.batch_save(stored)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a deed answered: the error's class, None when it went well; the numbers of the system; its text."""

    error: str | None = None
    errnos: tuple[int | None, ...] = ()
    text: str = ""
    expected: bool = True

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """Return the outcome that an error is."""
        errors = list(error.failures.values()) if isinstance(error, BatchError) else [error]
        errnos = tuple(getattr(each, "errno", None) for each in errors)
        expected = all(isinstance(each, PersistenceError) for each in errors)
        return cls(type(error).__name__, errnos, str(error), expected)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON."""
        return asdict(self)


def perform(deed: Deed, backend: FilePersistenceBackend, runner: asyncio.Runner) -> Outcome:
    """Carry a deed out and return what it answered."""
    try:
        deed.act(backend, runner)
    except (Exception, KeyboardInterrupt) as error:
        return Outcome.of(error)
    return Outcome()


def judge(
    deed: Deed, base: Path, outcome: Outcome | None, errno: int | None = None, *, temps: bool, told: bool = False
) -> list[str]:
    """Return how the directory, or the answer, breaks the promise.

    Args:
        deed: what was done.
        base: the directory, looked at through plain file calls first.
        outcome: the answer; None when the process died.
        errno: the error that was injected.
        temps: temp files may be left, because the process died or could not remove them.
        told: the answer must be the error: nothing that was done says that a failed sync has worked.
    """
    return [
        *_judge_answer(outcome, errno),
        *["the error was not told"] * (told and outcome is not None and outcome.error is None),
        *_judge_values(deed, base, outcome),
        *_judge_names(deed, base, temps=temps),
        *_judge_next_calls(deed, base),
    ]


def _judge_answer(outcome: Outcome | None, errno: int | None) -> Iterable[str]:
    if outcome is None or outcome.error in (None, KeyboardInterrupt.__name__):
        return
    if not outcome.expected:
        yield f"{outcome.error}: {outcome.text}"
    elif set(outcome.errnos) != {errno}:
        yield f"the error {errno} was told as {outcome.errnos}: {outcome.text}"
    elif not any(repr(key) in outcome.text for key in (KEY, OTHER, CLAIMED, TWIN)) and not _NO_KEY.match(outcome.text):
        yield f"the error names no key: {outcome.text}"


def _judge_values(deed: Deed, base: Path, outcome: Outcome | None) -> Iterable[str]:
    gone_well = outcome is not None and outcome.error is None
    for key, new in deed.after.items():
        found = _content(base / filename_for(key))
        if gone_well and found != new:
            yield f"{key!r} was acknowledged and is {_shown(found)}"
        elif found not in (deed.before[key], new):
            yield f"{key!r} is torn: {_shown(found)}"
    if _content(base / filename_for(BYSTANDER)) != b"kept":
        yield "the value of another key has changed"


def _judge_names(deed: Deed, base: Path, *, temps: bool) -> Iterable[str]:
    keys = [BYSTANDER, *deed.after]
    claims = {claim_name_for(filename_for(key)): key for key in keys if needs_claim(key)}
    for name in os.listdir(base):
        if name in claims:
            if _content(base / name) != claims[name].encode():
                yield f"the claim {name} is torn"
        elif _TEMP.fullmatch(name):
            if not temps:
                yield f"the temp file {name} is left"
        elif name not in map(filename_for, keys):
            yield f"the file {name} was made"
    for claim, key in claims.items():
        if (base / filename_for(key)).exists() and not (base / claim).exists():
            yield f"{key!r} is stored without its claim"


def _judge_next_calls(deed: Deed, base: Path) -> Iterable[str]:
    core = FilePersistenceBackend(base, fsync=False).blocking_core
    present = sorted(key for key in [BYSTANDER, *deed.after] if (base / filename_for(key)).exists())
    if core.list_keys() != present:
        yield f"listed are {core.list_keys()}, stored are {present}"
    for key in deed.after:
        if core.load(key) != _content(base / filename_for(key)):
            yield f"{key!r} loads as something else than its file"
    if CLAIMED in present and core.load(TWIN) is not None:
        yield f"{TWIN!r} loads what {CLAIMED!r} holds"
    for key in deed.after:
        core.save(key, b"again")
        if core.load(key) != b"again":
            yield f"{key!r} cannot be saved again"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _shown(value: bytes | None) -> str:
    return "missing" if value is None else f"{len(value)} bytes, {value[:8]!r}"


def _stream(backend: FilePersistenceBackend, _: asyncio.Runner) -> None:
    with backend.blocking_core.open_writer(KEY) as writer:
        for start in range(0, len(NEW), 7_000):
            writer.write(NEW[start : start + 7_000])


async def _stream_in_tasks(backend: FilePersistenceBackend) -> None:
    async with backend.open_writer(KEY) as writer:
        for start in range(0, len(NEW), 7_000):
            await writer.write(NEW[start : start + 7_000])


def _load(backend: FilePersistenceBackend, _: asyncio.Runner) -> None:
    values = [backend.blocking_core.load(key) for key in (KEY, CLAIMED)]
    if values != [OLD, OLD]:
        raise LookupError(f"loaded {values}")


def _list(backend: FilePersistenceBackend, runner: asyncio.Runner) -> None:
    core, true = backend.blocking_core, {BYSTANDER, KEY, CLAIMED}
    keys, entries = set(core.list_keys()), list(core.entries())
    known = {entry.key for entry in entries if entry.key is not None}
    # A companion that cannot be read leaves its key unknown; a wrong one, or a value left out, is never right.
    if not (true - {CLAIMED} <= keys <= true and true - {CLAIMED} <= known <= true and len(entries) == len(true)):
        raise LookupError(f"list gave {keys} and {entries}")
    if (core.key_count(), core.exists(KEY), core.exists(OTHER), core.exists(TWIN)) != (3, True, False, False):
        raise LookupError("the count, or what exists, is wrong")
    repaired = [finding for finding in runner.run(backend.check(repair=True)) if finding.repaired]
    if repaired:
        raise LookupError(f"check repaired {repaired}")


def _read_stream(backend: FilePersistenceBackend, _: asyncio.Runner) -> None:
    with backend.blocking_core.open_reader(CLAIMED) as reader:
        value = b"" if reader is None else b"".join(iter(lambda: reader.read(300), b""))
    if value != OLD:
        raise LookupError(f"read {value!r}")


async def _read_stream_in_tasks(backend: FilePersistenceBackend) -> None:
    value = b""
    async with backend.open_reader(CLAIMED) as reader:
        while reader is not None and (chunk := await reader.read(300)):
            value += chunk
    if value != OLD:
        raise LookupError(f"read {value!r}")


_TWO: Values = {KEY: OLD, CLAIMED: OLD}
_BATCH_BEFORE: Values = {KEY: OLD, OTHER: None, CLAIMED: None}
_BATCH_AFTER: Values = dict.fromkeys(_BATCH_BEFORE, NEW)

DEEDS = [
    Deed(
        "save", {KEY: None}, {KEY: NEW}, lambda b, _: b.blocking_core.save(KEY, NEW), (Copying, Deaf, Forgetful, Clumsy)
    ),
    Deed(
        "save",
        {KEY: OLD},
        {KEY: NEW},
        lambda b, _: b.blocking_core.save(KEY, NEW),
        (Copying, Deaf, Forgetful, Clumsy, Hopeful),
    ),
    Deed("delete", {KEY: OLD}, {KEY: None}, lambda b, _: b.blocking_core.delete(KEY), (Copying, Deaf)),
    Deed(
        "delete", _TWO, {KEY: None, CLAIMED: None}, lambda b, _: b.blocking_core.batch_delete([*_TWO]), (Copying, Deaf)
    ),
    Deed(
        "batch",
        _BATCH_BEFORE,
        _BATCH_AFTER,
        lambda b, _: b.blocking_core.batch_save(dict.fromkeys(_BATCH_BEFORE, NEW)),
        (Copying, Deaf),
    ),
    Deed("claim", {CLAIMED: None}, {CLAIMED: NEW}, lambda b, _: b.blocking_core.save(CLAIMED, NEW), (Late, Deaf)),
    Deed("claim", {CLAIMED: OLD}, {CLAIMED: NEW}, lambda b, _: b.blocking_core.save(CLAIMED, NEW), (Copying, Deaf)),
    Deed("claim", {CLAIMED: OLD}, {CLAIMED: None}, lambda b, _: b.blocking_core.delete(CLAIMED), (Copying, Deaf)),
    Deed("stream", {KEY: OLD}, {KEY: NEW}, _stream, (Copying, Deaf, Forgetful, Clumsy)),
    Deed(
        "stream", {KEY: None}, {KEY: NEW}, lambda b, r: r.run(_stream_in_tasks(b)), (Copying, Deaf, Forgetful, Clumsy)
    ),
    Deed("load or list", _TWO, _TWO, _load, (Blind,)),
    Deed("load or list", _TWO, _TWO, _list, (Blind,)),
    Deed("load or list", _TWO, _TWO, _read_stream, (Blind,)),
    Deed("load or list", _TWO, _TWO, lambda b, r: r.run(_read_stream_in_tasks(b)), (Blind,)),
]
