"""RowsEngine: the rows of another program's tables as keys and values, read only."""

# ruff: noqa: S608 - what is put into a statement are the names of tables and columns that this package knows

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar, Final, Never, TypeAlias

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.engines.read_only import refusal
from persistkit.engines.sql import SQLEngine
from persistkit.entry import Entry
from persistkit.errors import BatchError, StorageError

__all__ = [
    "Identity",
    "PartSize",
    "Payload",
    "Row",
    "RowsEngine",
    "Source",
    "Table",
    "escaped",
    "moment_of",
    "present",
    "text_of",
]

Identity: TypeAlias = tuple[Any, ...]  # the values of the key columns. Any: text as UTF-8, or a number
Row: TypeAlias = Sequence[Any]  # Any: what the driver reads; what is no UTF-8 in text as lone surrogates
PartSize: TypeAlias = tuple[tuple[str, ...], str | None, int]  # path, type and size of a payload

_PAGE_ROWS: Final = 20_000
_MOST_AT_ONCE: Final = 1_000
# Control characters would break lines, `/` parts, and what is not UTF-8 becomes lone surrogates.
_SPECIAL: Final = re.compile("[%/\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_ESCAPED: Final = re.compile(b"%([0-9A-F]{2})")
_SHORTENED: Final = "%~"
_MAX_PART_BYTES: Final = 240  # four of them, and a number, are a key
_KEPT_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Payload:
    """A column whose bytes are a part of the value."""

    name: str  # in the value
    kind: str = ""  # the column that has its type; without one it is JSON
    stored_in: str = ""  # the column, where it has another name


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of another program, and what of it makes key and value."""

    label: str  # its name in the value
    name: str  # its name in the database
    identity: tuple[str, ...]  # the key columns, in the order of the primary key
    has_number: bool = False  # the last of them holds a number
    columns: tuple[str, ...] = ()  # of few bytes each; another version may lack some
    payloads: tuple[Payload, ...] = ()  # the others
    more: str = ""  # SQL of an array of further payloads (name, type, ``{data}``), which belong to the first
    below: str = ""  # the first part of the keys, where that is no column


def present(tables: Iterable[Table], found: Mapping[str, set[str]]) -> list[Table]:
    """Return the tables that are ``found`` (name -> columns), without the columns that are not."""
    return [
        replace(table, columns=tuple(name for name in table.columns if name in found[table.name]))
        for table in tables
        if {*table.identity, *(one.stored_in or one.name for one in table.payloads)} <= found.get(table.name, set())
    ]


class Source(SQLEngine):
    """The database: an engine of ours without its table, and the SQL that differs; ``{0}`` stands for a column."""

    all_columns: ClassVar[str]  # the statement for every table's name with each of its columns' names
    text_mark: ClassVar[str]  # the placeholder for text, which is given in UTF-8
    is_text: ClassVar[str]  # the condition that a key column holds what it should
    is_number: ClassVar[str]  # the same of a number
    json: ClassVar[str]  # JSON, as the next two take it
    as_bytes: ClassVar[str]
    size: ClassVar[str]  # how many these are
    takes_any_text: ClassVar[bool]  # also what is not UTF-8, or holds NUL

    def __repr__(self) -> str:
        return repr(self.place)  # in errors: whoever opened the database knows no source

    def _see_table(self, connection: Any) -> None:
        """Look for nothing: none of the tables is ours."""


class RowsEngine(Engine):
    """The rows of another program's tables, which are only ever read.

    A key is the primary key, its parts joined by ``/``. In a part ``%``, ``/``, control characters and what is not
    UTF-8 are percent-encoded, so that every row has a key of its own; of more than 240 bytes it is cut, and ends in
    ``%~`` and a digest.
    """

    concurrency = 1
    digits: ClassVar[int] = 1  # of a number in a key, at least
    below: ClassVar[tuple[str, ...]]  # the first parts that are no column

    def __init__(self, source: Source, tables: Iterable[Table]) -> None:
        self._source = source
        self._tables = tuple(tables)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source.place!r})"

    @classmethod
    @abstractmethod
    def tables_of(cls, found: Mapping[str, set[str]]) -> list[Table]:
        """Return the program's tables among those that are ``found`` (name -> columns); none where it has none."""

    @classmethod
    def prefix_of(cls, first: Any) -> str:
        """Return what the keys of a thread or session start with. Any: a name, or as the driver reads it."""
        part = escaped(first)
        return f"%{ord(part[0]):02X}{part[1:]}/" if part in cls.below else f"{part}/"

    def close(self) -> None:
        """Close the connections; the next operation opens one anew."""
        self._source.close()

    @abstractmethod
    def _head(self, table: Table, row: Row, parts: Sequence[PartSize]) -> bytes:
        """Return what stands before the payloads of a row, of which path, type and size are given."""

    def _value(self, table: Table, row: Row) -> bytes:
        payloads = list(self._payloads(table, row))
        parts = [(path, kind, len(data)) for path, kind, data in payloads]
        return b"".join([self._head(table, row, parts), *(data for _, _, data in payloads)])

    def _size(self, table: Table, row: Row) -> int:
        """Return the size of the value, of a row that has the sizes of its payloads in their places."""
        parts = [(path, kind, int(size)) for path, kind, size in self._payloads(table, row)]
        return len(self._head(table, row, parts)) + sum(size for _, _, size in parts)

    def _modified(self, table: Table, row: Row) -> datetime | None:
        columns = self._columns(table, row)
        return moment_of(columns.get("updated_at") or columns.get("created_at"))

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
        wanted: dict[Table, list[Identity]] = {table: [] for table in self._tables}
        for key in keys:
            for table in self._tables:
                if (identity := self._identity(table, key)) is not None:
                    wanted[table].append(identity)
        if shortened := {key for key in keys if _SHORTENED in key}:
            for table, key, row in self._rows("", sizes=None):
                if key in shortened:
                    wanted[table].append(_encoded(row))
        return {
            self._key(table, row): self._value(table, row)
            for table, identities in wanted.items()
            for row in self._find(tried, table, identities)
        }

    def _find(self, tried: str, table: Table, wanted: Iterable[Identity]) -> Iterator[Row]:
        """Yield the rows with these identities, or their first parts."""
        able = [identity for identity in wanted if self._can_be(identity)]
        for start in range(0, len(able), _MOST_AT_ONCE):
            some = able[start : start + _MOST_AT_ONCE]
            count = len(some[0])
            names = ", ".join(table.identity[:count])
            values = ", ".join([f"({', '.join(self._marks(table)[:count])})"] * len(some))
            given = ", ".join(f"column{number}" for number in range(1, count + 1))
            statement = self._select(table, f"JOIN (VALUES {values}) AS wanted ON ({names}) = ({given})", sizes=False)
            yield from self._source._read(tried, statement, tuple(part for identity in some for part in identity))

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for table, key, row in self._rows(prefix, sizes=True):
            yield Entry(key, self._size(table, row), self._modified(table, row))

    def _list_keys(self, prefix: str) -> list[str]:
        return sorted(key for _, key, _ in self._rows(prefix, sizes=None))

    def _key_count(self) -> int:
        return sum(1 for _ in self._rows("", sizes=None))

    def _change_token(self) -> object:
        return self._source._change_token()

    def _rows(self, prefix: str, *, sizes: bool | None) -> Iterator[tuple[Table, str, Row]]:
        """Yield table, key and row of what starts with a prefix; no page is a snapshot of the next one."""
        for table in self._tables:
            fixed = self._fixed(table, prefix)
            if fixed is None or not self._can_be(fixed):
                continue
            names, marks = ", ".join(table.identity), self._marks(table)
            conditions = [f"{name} = {mark}" for name, mark in zip(table.identity, marks, strict=True)][: len(fixed)]
            select = " AND ".join([self._select(table, sizes=sizes), *conditions])
            after: Identity = ()
            while True:
                later = f"AND ({names}) > ({', '.join(marks)})" if after else ""
                statement = f"{select} {later} ORDER BY {names} LIMIT {_PAGE_ROWS}"
                page = self._source._read(f"list keys starting with {prefix!r}", statement, (*fixed, *after))
                for row in page:
                    if (key := self._key(table, row)).startswith(prefix):
                        yield table, key, row
                if len(page) < _PAGE_ROWS:
                    break
                after = _encoded(page[-1][: len(table.identity)])

    def _select(self, table: Table, joined: str = "", *, sizes: bool | None) -> str:
        """Return the statement for identity, columns, and payloads or their sizes; None for the identity alone."""
        source, wanted = self._source, list(table.identity)
        if sizes is not None:
            wanted += table.columns
            read = source.size if sizes else source.as_bytes
            for payload in table.payloads:
                data = payload.stored_in or payload.name
                data = data if payload.kind else source.json.format(data)
                wanted += [payload.kind or "'json'", read.format(data)]
            if table.more:
                data = f"convert_to(({source.size.format('b.blob')})::text, 'UTF8')" if sizes else "b.blob"
                wanted.append(table.more.format(data=data))
        kinds = self._each(table, source.is_text, source.is_number)
        are_there = " AND ".join(kind.format(name) for name, kind in zip(table.identity, kinds, strict=True))
        return f"SELECT {', '.join(wanted)} FROM {table.name} AS t {joined} WHERE {are_there}"

    def _each(self, table: Table, text: str, number: str) -> list[str]:
        """Return SQL for each key column, by what it holds."""
        return [text] * (len(table.identity) - table.has_number) + [number] * table.has_number

    def _marks(self, table: Table) -> list[str]:
        return self._each(table, self._source.text_mark, self._source.mark)

    def _can_be(self, identity: Identity) -> bool:
        """Tell whether the database can hold this."""
        text = b"/".join(part for part in identity if isinstance(part, bytes))
        is_plain = b"\0" not in text and text.decode(errors="ignore").encode() == text
        return is_plain or self._source.takes_any_text

    def _columns(self, table: Table, row: Row) -> dict[str, Any]:
        return dict(zip((*table.identity, *table.columns), map(text_of, row), strict=False))

    def _payloads(self, table: Table, row: Row) -> Iterator[tuple[tuple[str, ...], str | None, Any]]:
        """Yield path, type, and bytes or size of each payload of a row."""
        place = len(table.identity) + len(table.columns)
        for payload in table.payloads:
            if row[place + 1] is not None:
                yield (payload.name,), text_of(row[place]), row[place + 1]
            place += 2
        for name, kind, data in (row[place] or ()) if table.more else ():
            yield (table.payloads[0].name, "channel_values", text_of(name)), text_of(kind), data

    def _key(self, table: Table, row: Row) -> str:
        count = len(table.identity)
        parts = [f"{value:0{self.digits}d}" if type(value) is int else value for value in row[:count]]
        plain = "/".join(parts)
        if (
            "%" in plain
            or plain.count("/") != count - 1
            or not (plain.isascii() and plain.isprintable())
            or len(plain) > _MAX_PART_BYTES
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
        if len(whole) >= len(table.identity):
            return None
        return () if _SHORTENED in prefix else tuple(map(_unescaped, whole))


def _encoded(identity: Row) -> Identity:
    return tuple(part.encode(errors="surrogateescape") if isinstance(part, str) else part for part in identity)


def text_of(value: Any) -> Any:
    """Return bytes and times of the driver as text, what is not UTF-8 as lone surrogates, anything else as it is."""
    if isinstance(value, datetime):
        return str(value.astimezone(UTC))
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
