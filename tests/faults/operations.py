"""Operations: what is done to a directory while something fails, and how the outcome is judged."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from persistkit.backend import EngineBackend
from persistkit.engines.files import FileEngine
from persistkit.errors import BatchError, PersistenceError
from persistkit.keys import filename_for, needs_owner_file, owner_filename_for

from .mutants import MUTANTS, engine_of

OLD, NEW = b"old " * 100, b"new value " * 2_400
KEY, OTHER, OWNED, TWIN = "session:1", "session:2", "a?>", "a>_"
BYSTANDER = "kept"
LOCKS = ".persistkit-locks"

Values: TypeAlias = dict[str, bytes | None]
_NO_KEY = re.compile("(list|count|check) ")
_TEMP = re.compile(r"\.persistkit-[0-9a-f]{32}\.tmp")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the file engine on a prepared directory.

    Attributes:
        name: what it is called in the table.
        before: the values it finds, None for none.
        after: the values when it has gone well.
        act: carries it out.
        mutants: broken writers whose flaw it must show when a call fails.
    """

    name: str
    before: Values
    after: Values
    act: Callable[[FileEngine, asyncio.Runner], object]
    mutants: tuple[str, ...]

    @property
    def writes(self) -> bool:
        """Whether it changes a value."""
        return self.before != self.after

    def prepare(self, base: Path) -> None:
        """Make the directory with the values from before."""
        stored: dict[str, bytes | bytearray | memoryview] = {BYSTANDER: b"kept"}
        stored |= {key: value for key, value in self.before.items() if value is not None}
        FileEngine(base, create=True, fsync=False).batch_save(stored)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation answered: the error's class, None when it went well; the numbers of the system; its text."""

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
        return cls(type(error).__name__, errnos, str(error)[:2_000], expected)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Outcome:
        """Return the outcome that a child told as plain JSON."""
        return cls(**fields | {"errnos": tuple(fields["errnos"])})


def perform(operation: Operation, engine: FileEngine, runner: asyncio.Runner) -> Outcome:
    """Carry an operation out and return what it answered."""
    try:
        operation.act(engine, runner)
    except (Exception, KeyboardInterrupt) as error:
        return Outcome.of(error)
    return Outcome()


def perform_in_child(number: int, mutant: str, base: str) -> Iterator[dict[str, Any] | None]:
    """Carry out the operation of that number in ``base``, as a task of the fork server; give the outcome as JSON."""
    with asyncio.Runner() as runner, MUTANTS[mutant]():
        engine = engine_of(mutant, base)
        runner.run(asyncio.sleep(0))
        yield None
        outcome = perform(OPERATIONS[number], engine, runner)
        if outcome.error == KeyboardInterrupt.__name__:
            # As asyncio.run does: a second interrupt finds the task while it cleans up.
            with suppress(KeyboardInterrupt):
                runner.close()
        yield asdict(outcome)


def warm_up() -> None:
    """Do everything once, so that no child of the fork server imports anything."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        for number, operation in enumerate(OPERATIONS):
            operation.prepare(base := Path(folder) / str(number))
            assert perform(operation, FileEngine(base), runner) == Outcome()


def judge(
    operation: Operation,
    base: Path,
    outcome: Outcome | None,
    errno: int | None = None,
    *,
    temps: bool,
    told: bool = False,
) -> list[str]:
    """Return how the directory, or the answer, breaks the promise.

    Args:
        operation: what was done.
        base: the directory, looked at through plain file calls first.
        outcome: the answer; None when the process died.
        errno: the error that was injected.
        temps: temp files may be left, because the process died or could not remove them.
        told: the answer must be the error: nothing that was done says that a failed sync has worked.
    """
    return [
        *_judge_answer(outcome, errno),
        *["the error was not told"] * (told and outcome is not None and outcome.error is None),
        *_judge_values(operation, base, outcome),
        *_judge_names(operation, base, temps=temps),
        *_next_calls(operation, base),
    ]


def _judge_answer(outcome: Outcome | None, errno: int | None) -> Iterable[str]:
    if outcome is None or outcome.error in (None, KeyboardInterrupt.__name__):
        return
    if not outcome.expected:
        yield f"{outcome.error}: {outcome.text}"
    elif set(outcome.errnos) != {errno}:
        yield f"the error {errno} was told as {outcome.errnos}: {outcome.text}"
    elif not any(repr(key) in outcome.text for key in (KEY, OTHER, OWNED, TWIN)) and not _NO_KEY.match(outcome.text):
        yield f"the error names no key: {outcome.text}"


def _judge_values(operation: Operation, base: Path, outcome: Outcome | None) -> Iterable[str]:
    gone_well = outcome is not None and outcome.error is None
    for key, new in operation.after.items():
        found = _content(base / filename_for(key))
        if gone_well and found != new:
            yield f"{key!r} was acknowledged and is {_shown(found)}"
        elif found not in (operation.before[key], new):
            yield f"{key!r} is torn: {_shown(found)}"
    if _content(base / filename_for(BYSTANDER)) != b"kept":
        yield "the value of another key has changed"


def _judge_names(operation: Operation, base: Path, *, temps: bool) -> Iterable[str]:
    keys = [BYSTANDER, *operation.after]
    owners = {owner_filename_for(filename_for(key)): key for key in keys if needs_owner_file(key)}
    for name in os.listdir(base):
        if name in owners:
            if _content(base / name) != owners[name].encode():
                yield f"the owner file {name} is torn"
        elif name == LOCKS:
            continue
        elif _TEMP.fullmatch(name):
            if not temps:
                yield f"the temp file {name} is left"
        elif name not in map(filename_for, keys):
            yield f"the file {name} was made"
    for owner, key in owners.items():
        if (base / filename_for(key)).exists() and not (base / owner).exists():
            yield f"{key!r} is stored without its owner file"


def _next_calls(operation: Operation, base: Path) -> list[str]:
    try:
        return list(_judge_next_calls(operation, base))
    except PersistenceError as error:
        return [f"the next calls fail: {error}"]


def _judge_next_calls(operation: Operation, base: Path) -> Iterable[str]:
    engine = FileEngine(base, fsync=False)
    present = sorted(key for key in [BYSTANDER, *operation.after] if (base / filename_for(key)).exists())
    if engine.list_keys() != present:
        yield f"listed are {engine.list_keys()}, stored are {present}"
    for key in operation.after:
        if engine.load(key) != _content(base / filename_for(key)):
            yield f"{key!r} loads as something else than its file"
    if OWNED in present and engine.load(TWIN) is not None:
        yield f"{TWIN!r} loads what {OWNED!r} holds"
    for key in operation.after:
        engine.save(key, b"again")
        if engine.load(key) != b"again":
            yield f"{key!r} cannot be saved again"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _shown(value: bytes | None) -> str:
    return "missing" if value is None else f"{len(value)} bytes, {value[:8]!r}"


def _write_stream(engine: FileEngine, _: asyncio.Runner) -> None:
    with engine.open_writer(KEY) as file:
        for start in range(0, len(NEW), 7_000):
            file.write(NEW[start : start + 7_000])


def _write_stream_in_task(engine: FileEngine, runner: asyncio.Runner) -> None:
    async def write() -> None:
        async with EngineBackend(engine).open_writer(KEY) as file:
            for start in range(0, len(NEW), 7_000):
                await file.write(NEW[start : start + 7_000])

    runner.run(write())


def _load(engine: FileEngine, _: asyncio.Runner) -> None:
    values = [engine.load(key) for key in (KEY, OWNED)]
    if values != [OLD, OLD]:
        raise LookupError(f"loaded {values}")


def _list(engine: FileEngine, _: asyncio.Runner) -> None:
    true = {BYSTANDER, KEY, OWNED}
    keys, entries = set(engine.list_keys()), list(engine.entries())
    known = {entry.key for entry in entries if entry.key is not None}
    # An owner file that cannot be read leaves its key unknown; a wrong key, or a value left out, is never right.
    if not (true - {OWNED} <= keys <= true and true - {OWNED} <= known <= true and len(entries) == len(true)):
        raise LookupError(f"list gave {keys} and {entries}")
    if (engine.key_count(), engine.exists(KEY), engine.exists(OTHER), engine.exists(TWIN)) != (3, True, False, False):
        raise LookupError("the count, or what exists, is wrong")
    repaired = [finding for finding in engine.check(repair=True) if finding.repaired]
    if repaired:
        raise LookupError(f"check repaired {repaired}")


def _read_stream(engine: FileEngine, _: asyncio.Runner) -> None:
    file = engine.open_reader(OWNED)
    if file is None:
        raise LookupError("nothing to read")
    with file:
        value = b"".join(iter(lambda: file.read(300), b""))
    if value != OLD:
        raise LookupError(f"read {value!r}")


def _add(engine: FileEngine, _: asyncio.Runner) -> None:
    if not engine.add(KEY, NEW):
        raise LookupError("nothing was added")


def _replace(engine: FileEngine, _: asyncio.Runner) -> None:
    if not engine.replace(KEY, NEW, OLD):
        raise LookupError("nothing was replaced")


_TWO: Values = {KEY: OLD, OWNED: OLD}
_BATCH_BEFORE: Values = {KEY: OLD, OTHER: None, OWNED: None}
_BATCH_AFTER: Values = dict.fromkeys(_BATCH_BEFORE, NEW)
_WRITERS = ("Copies", "IgnoresErrors", "LeavesTempFiles", "FailsAtCleanup")

OPERATIONS = [
    Operation("save", {KEY: None}, {KEY: NEW}, lambda e, _: e.save(KEY, NEW), _WRITERS),
    Operation("save", {KEY: OLD}, {KEY: NEW}, lambda e, _: e.save(KEY, NEW), (*_WRITERS, "IgnoresFsyncFailure")),
    Operation("delete", {KEY: OLD}, {KEY: None}, lambda e, _: e.delete(KEY), ("Copies", "IgnoresErrors")),
    Operation(
        "delete", _TWO, dict.fromkeys(_TWO), lambda e, _: e.batch_delete([*_TWO]), ("Copies", "IgnoresErrors")
    ),
    Operation(
        "batch", _BATCH_BEFORE, _BATCH_AFTER,
        lambda e, _: e.batch_save(dict.fromkeys(_BATCH_BEFORE, NEW)), ("Copies", "IgnoresErrors"),
    ),
    Operation(
        "save of an owned key", {OWNED: None}, {OWNED: NEW},
        lambda e, _: e.save(OWNED, NEW), ("WritesOwnerFileLast", "IgnoresErrors"),
    ),
    Operation(
        "save of an owned key", {OWNED: OLD}, {OWNED: NEW}, lambda e, _: e.save(OWNED, NEW), ("Copies", "IgnoresErrors")
    ),
    Operation(
        "delete of an owned key", {OWNED: OLD}, {OWNED: None}, lambda e, _: e.delete(OWNED), ("Copies", "IgnoresErrors")
    ),
    Operation("stream", {KEY: OLD}, {KEY: NEW}, _write_stream, _WRITERS),
    Operation("stream", {KEY: None}, {KEY: NEW}, _write_stream_in_task, _WRITERS),
    Operation("add", {KEY: None}, {KEY: NEW}, _add, _WRITERS),
    Operation("replace", {KEY: OLD}, {KEY: NEW}, _replace, _WRITERS),
    Operation("load or list", _TWO, _TWO, _load, ("TreatsErrorAsMissing",)),
    Operation("load or list", _TWO, _TWO, _list, ("TreatsErrorAsMissing",)),
    Operation("load or list", _TWO, _TWO, _read_stream, ("TreatsErrorAsMissing",)),
]  # fmt: skip
