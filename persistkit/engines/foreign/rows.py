"""RowsEngine: the rows of another program's tables as keys and values, read only."""

# ruff: noqa: S608 - what is put into a statement are the names of tables and columns that this package knows

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, Final, Never, Protocol, TypeAlias

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.engines.read_only import refusal
from persistkit.entry import Entry
from persistkit.errors import BatchError, StorageError

__all__ = [
    "Identity",
    "Payload",
    "Row",
    "RowsEngine",
    "Source",
    "Table",
    "escaped",
    "moment_of",
    "text_of",
]

Identity: TypeAlias = tuple[Any, ...]  # the values of the key columns. Any: text as UTF-8, or a number
Row: TypeAlias = Sequence[Any]  # Any: what the driver reads; what is no UTF-8 in text as lone surrogates

_PAGE_ROWS: Final = 20_000
# Control characters would break lines, `/` parts, and what is not UTF-8 becomes lone surrogates.
_SPECIAL: Final = re.compile("[%/\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_ESCAPED: Final = re.compile(b"%([0-9A-F]{2})")
_SHORTENED: Final = "%~"
_MAX_PART_BYTES: Final = 240  # four of them, and a number, are a key
_KEPT_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Payload:
    """A column whose bytes are a part of the value.

    Attributes:
        path: to its place in the value.
        data: the SQL expression of its bytes.
        kind: the SQL expression of its type.
    """

    path: tuple[str, ...]
    data: str
    kind: str = "'json'"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of another program, and what of it makes key and value.

    Attributes:
        label: its name in the value.
        name: its name in the database.
        identity: the key columns, in the order of the primary key.
        has_number: the last key column is a number.
        columns: of few bytes each, name -> SQL expression.
        payloads: the others.
        more: the SQL expression of an array of further payloads (name, type, ``{data}``), which belong to the first.
        below: the first part of the keys, where that is no column.
    """

    label: str
    name: str
    identity: tuple[str, ...]
    has_number: bool = False
    columns: tuple[tuple[str, str], ...] = ()
    payloads: tuple[Payload, ...] = ()
    more: str = ""
    below: str = ""


class Source(Protocol):
    """The database: what differs between SQLite and PostgreSQL."""

    def read(self, tried: str, statement: str, parameters: Identity = ()) -> list[Row]:
        """Return all rows of a statement."""

    def find(self, tried: str, select: str, table: Table, wanted: Sequence[Identity]) -> Iterable[Row]:
        """Return the rows that ``select`` selects with these identities (text as UTF-8), or their first parts."""

    def marks(self, table: Table) -> list[str]:
        """Return the placeholders of the key columns."""

    def bytes_of(self, data: str) -> str:
        """Return the SQL expression of ``data`` as bytes."""

    def size_of(self, data: str) -> str:
        """Return the SQL expression of how many bytes these are."""

    def is_key(self, table: Table) -> str:
        """Return the SQL condition that the key columns hold what they should."""

    def change_token(self) -> object:
        """Return what moves with every commit."""

    def close(self) -> None:
        """Close the connections."""


class RowsEngine(Engine):
    """The rows of another program's tables, which are only ever read.

    A key is the primary key, its parts joined by ``/``. In a part ``%``, ``/``, control characters and what is not
    UTF-8 are percent-encoded, so that every row has a key of its own; of more than 240 bytes it is cut, and ends in
    ``%~`` and a digest.

    Args:
        source: the database.
        tables: those that are there.
        place: how to name the database.
    """

    concurrency = 1
    digits: ClassVar[int] = 1  # of a number in a key, at least
    below: ClassVar[tuple[str, ...]]  # the first parts that are no column

    def __init__(self, source: Source, tables: Iterable[Table], place: str) -> None:
        self._source = source
        self._tables = tuple(tables)
        self._place = place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    @classmethod
    def prefix_of(cls, first: Any) -> str:
        """Return what the keys of a thread or session start with. Any: a name, or as the driver reads it."""
        part = escaped(first)
        return f"%{ord(part[0]):02X}{part[1:]}/" if part in cls.below else f"{part}/"

    def close(self) -> None:
        """Close the connections; the next operation opens one anew."""
        self._source.close()

    @abstractmethod
    def _value(self, table: Table, row: Row) -> bytes: ...

    @abstractmethod
    def _size(self, table: Table, row: Row) -> int:
        """Return the size of the value, of a row that has the sizes of its payloads in their places."""

    @abstractmethod
    def _modified(self, table: Table, row: Row) -> datetime | None: ...

    def _save(self, key: str, value: BytesLike) -> Never:  # noqa: ARG002
        raise refusal(f"save {key!r}", repr(self))

    def _delete(self, key: str) -> Never:
        raise refusal(f"delete {key!r}", repr(self))

    def _load(self, key: str) -> bytes | None:
        return self._loaded(f"load {key!r}", [key]).get(key)

    def _batch_load(self, keys: list[str]) -> list[bytes | None]:
        try:
            loaded = self._loaded(f"load a batch of {len(keys):,} keys", keys)
        except StorageError as error:
            raise BatchError(str(error), dict.fromkeys(keys, error)) from error
        return [loaded.get(key) for key in keys]

    def _loaded(self, tried: str, keys: list[str]) -> dict[str, bytes]:
        wanted: dict[Table, list[Identity]] = {}
        if any(_SHORTENED in key for key in keys):
            whole = {key: (table, row) for table, key, row in self._rows("", sizes=None) if _SHORTENED in key}
            for key in keys:
                if key in whole:
                    table, row = whole[key]
                    wanted.setdefault(table, []).append(_encoded(row))
        for key in keys:
            for table in self._tables:
                if (identity := self._identity(table, key)) is not None:
                    wanted.setdefault(table, []).append(identity)
        return {
            self._key(table, row): self._value(table, row)
            for table, identities in wanted.items()
            for row in self._source.find(tried, self._select(table, sizes=False), table, identities)
        }

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for table, key, row in self._rows(prefix, sizes=True):
            yield Entry(key, self._size(table, row), self._modified(table, row))

    def _list_keys(self, prefix: str) -> list[str]:
        return sorted(key for _, key, _ in self._rows(prefix, sizes=None))

    def _key_count(self) -> int:
        return sum(1 for _ in self._rows("", sizes=None))

    def _change_token(self) -> object:
        return self._source.change_token()

    def _rows(self, prefix: str, *, sizes: bool | None) -> Iterator[tuple[Table, str, Row]]:
        """Yield table, key and row of what starts with a prefix; no page is a snapshot of the next one."""
        for table in self._tables:
            fixed = self._fixed(table, prefix)
            if fixed is None:
                continue
            names, marks = ", ".join(table.identity), self._source.marks(table)
            conditions = [f"{name} = {mark}" for name, mark in zip(table.identity, marks, strict=True)][: len(fixed)]
            select = " AND ".join([self._select(table, sizes=sizes), *conditions])
            after: Identity = ()
            while True:
                later = f"AND ({names}) > ({', '.join(marks)})" if after else ""
                statement = f"{select} {later} ORDER BY {names} LIMIT {_PAGE_ROWS}"
                page = self._source.read(f"list keys starting with {prefix!r}", statement, (*fixed, *after))
                for row in page:
                    if (key := self._key(table, row)).startswith(prefix):
                        yield table, key, row
                if len(page) < _PAGE_ROWS:
                    break
                after = _encoded(page[-1][: len(table.identity)])

    def _select(self, table: Table, *, sizes: bool | None) -> str:
        """Return the statement for identity, columns, and payloads or their sizes; None for the identity alone."""
        wanted = list(table.identity)
        if sizes is not None:
            wanted += [expression for _, expression in table.columns]
            for payload in table.payloads:
                expression = self._source.size_of if sizes else self._source.bytes_of
                wanted += [payload.kind, expression(payload.data)]
            if table.more:
                size = f"convert_to(({self._source.size_of('b.blob')})::text, 'UTF8')"
                wanted.append(table.more.format(data=size if sizes else "b.blob"))
        return f"SELECT {', '.join(wanted)} FROM {table.name} AS t WHERE {self._source.is_key(table)}"

    def _columns(self, table: Table, row: Row) -> dict[str, Any]:
        columns: dict[str, Any] = dict(zip(table.identity, row, strict=False))
        for place, (name, _) in enumerate(table.columns, len(table.identity)):
            columns[name] = text_of(row[place])
        return columns

    def _payloads(self, table: Table, row: Row) -> Iterator[tuple[tuple[str, ...], str | None, Any]]:
        """Yield path, type, and bytes or size of each payload of a row."""
        place = len(table.identity) + len(table.columns)
        for payload in table.payloads:
            if row[place + 1] is not None:
                yield payload.path, text_of(row[place]), row[place + 1]
            place += 2
        for name, kind, data in (row[place] or ()) if table.more else ():
            yield (table.payloads[0].path[0], "channel_values", text_of(name)), text_of(kind), data

    def _key(self, table: Table, row: Row) -> str:
        count = len(table.identity)
        parts = [f"{value:0{self.digits}d}" if type(value) is int else value for value in row[:count]]
        plain = "/".join(parts)
        if (
            "%" in plain
            or plain.count("/") != count - 1
            or not (plain.isascii() and plain.isprintable())
            or (len(plain) > _MAX_PART_BYTES)
        ):
            parts = [escaped(part) for part in parts]
        if table.below:
            return "/".join([table.below, *parts])
        if parts[0] in self.below:
            parts[0] = self.prefix_of(row[0])[:-1]
        return "/".join(parts)

    def _identity(self, table: Table, key: str) -> Identity | None:
        """Return the key columns of the row that can be under a key of this table, None for another table's key."""
        parts = key.split("/")
        below = parts.pop(0) if table.below else ""
        if below != table.below or len(parts) != len(table.identity):
            return None
        identity: Identity = tuple(map(_unescaped, parts))
        if table.has_number:
            if not re.fullmatch(b"-?[0-9]{1,18}", identity[-1]):
                return None
            identity = (*identity[:-1], int(identity[-1]))
        return identity if self._key(table, [text_of(part) for part in identity]) == key else None

    def _fixed(self, table: Table, prefix: str) -> Identity | None:
        """Return the first key columns, as a prefix fixes them; None when no key of the table can start with it."""
        parts = prefix.split("/")
        if table.below and not (table.below == parts[0] if len(parts) > 1 else table.below.startswith(prefix)):
            return None
        whole = parts[1:-1] if table.below else parts[:-1]
        if len(whole) >= len(table.identity) or _SHORTENED in prefix:
            return None if len(whole) >= len(table.identity) else ()
        return tuple(map(_unescaped, whole))


def _encoded(identity: Row) -> Identity:
    return tuple(part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in identity)


def text_of(value: Any) -> Any:
    """Return bytes of the driver as text, what is not UTF-8 in it as lone surrogates, and anything else as it is."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def moment_of(text: object) -> datetime | None:
    """Return a time that a database wrote, in UTC where it names no zone, or None where it is no time."""
    try:
        moment = datetime.fromisoformat(text_of(text))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def escaped(value: Any) -> str:
    """Return text, or the bytes of it, as a part of a key."""
    text: str = _SPECIAL.sub(_percent_encoded, text_of(value))
    if len(text.encode()) > _MAX_PART_BYTES:
        kept = re.sub("%.?$", "", text[:_KEPT_CHARACTERS])
        return f"{kept}{_SHORTENED}{sha256(text.encode()).hexdigest()[:32]}"
    return text


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogateescape"))


def _unescaped(part: str) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), part.encode(errors="surrogatepass"))
