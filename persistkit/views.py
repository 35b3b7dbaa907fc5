"""Views: the values of many keys, read in batches; what a damaged value does; when two values are equal."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.errors import FormatError
from persistkit.formats import decode, encode
from persistkit.progress import Progress, load_in_batches
from persistkit.selection import Selection

__all__ = [
    "Errors",
    "StoreItems",
    "StoreValues",
    "T",
    "V",
    "check_errors",
    "damaged",
    "equal_values",
    "read_values",
    "value_or_bytes",
]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from persistkit.mapping import StoreMapping

    T = TypeVar("T", default=Any)
    V = TypeVar("V")
else:
    from typing import TypeVar

    T = TypeVar("T")
    V = TypeVar("V")

Errors: TypeAlias = Literal["raise", "skip", "bytes"]


def check_errors(errors: str) -> None:
    """Refuse what says nothing about damaged values.

    Raises:
        TypeError: ``errors`` is not text; a dict's ``items`` raises it too.
        ValueError: ``errors`` is none of the three words.
    """
    if not isinstance(errors, str):
        raise TypeError(f"errors is 'raise', 'skip' or 'bytes', not {type(errors).__name__}")
    if errors not in ("raise", "skip", "bytes"):
        raise ValueError(f"errors is 'raise', 'skip' or 'bytes', not {errors!r}")


def damaged(key: str, error: FormatError) -> FormatError:
    """Return the error that names the key of a damaged value, and the way to its bytes."""
    return FormatError(f"load {key!r}: {error}; get_bytes({key!r}) gives the bytes")


def value_or_bytes(key: str, data: BytesLike) -> Any:
    """Return the value that ``data`` holds, or the bytes themselves where they are damaged."""
    try:
        return decode(data, None, key)
    except FormatError:
        return bytes(data)


def read_values(
    engine: Engine,
    keys: Sequence[str],
    errors: Errors,
    read: Callable[..., Any] = decode,
    *,
    progress: Progress | None = None,
    missing: Callable[[str], Exception] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, in order, read in batches; one that is not there is left out, or ``missing``."""
    for key, data in load_in_batches(engine, keys, progress):
        if data is None:
            if missing is not None:
                raise missing(key)
            continue
        try:
            value = read(bytes(data), None, key)  # an engine may have kept a buffer, which an array would share
        except FormatError as error:
            if errors == "skip":
                continue
            if errors == "raise":
                raise damaged(key, error) from None
            value = data
        yield key, value


class StoreItems(ItemsView[str, Any]):
    """The selected keys of a store, sorted, with their values."""

    def __init__(self, store: StoreMapping[Any], errors: Errors, selection: Selection) -> None:
        check_errors(errors)
        super().__init__(store)
        self._store = store
        self._errors = errors
        self._selection = selection

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        engine = self._store.engine
        return read_values(engine, self._selection.list_keys(engine), self._errors, self._store._decode)

    def __len__(self) -> int:
        return len(self._selection.list_keys(self._store.engine))

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
            return False
        return item[0] in self._selection and super().__contains__(item)


class StoreValues(ValuesView[Any]):
    """The values of a store in the order of their keys."""

    def __init__(self, store: Mapping[str, Any], items: ItemsView[str, Any]) -> None:
        super().__init__(store)
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, value: object) -> bool:
        return any(equal_values(value, stored) for stored in self)


def equal_values(one: Any, other: Any) -> bool:
    """Tell whether two values are equal; arrays, tables and NaN are when they are stored as the same bytes."""
    try:
        if one == other:
            return True
    except ValueError:  # arrays and tables answer for each cell
        pass
    try:
        return encode(one) == encode(other)
    except FormatError:
        return False
