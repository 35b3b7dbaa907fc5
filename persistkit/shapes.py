"""Shape: values of a type of one's own, written and validated by pydantic."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Final

from persistkit.errors import FormatError
from persistkit.formats import decode, encode

if TYPE_CHECKING:
    from pydantic import ValidationError

    from persistkit.arguments import BytesLike

__all__ = ["Shape"]

_UNEXPECTED: Final = re.compile(r"Expected `([^`]*)`[^\[]*\[(?:field_name='(\w+)')?")


class Shape:
    """How the values of one type are stored: as the JSON that pydantic makes of them, validated when they are read.

    Args:
        type: a dataclass, a pydantic model, a TypedDict, an enum, or what else pydantic's ``TypeAdapter`` takes.

    Raises:
        ImportError: pydantic is not installed.
        TypeError: pydantic does not know what to do with ``type``.
    """

    def __init__(self, type: Any) -> None:  # noqa: A002 - as in Store.view
        try:
            from pydantic import PydanticUserError, TypeAdapter
        except ImportError as error:
            raise ImportError('Typed views need one more package: pip install "persistkit[pydantic]"') from error
        self._name = getattr(type, "__name__", repr(type))
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(type)
        except PydanticUserError as error:
            raise TypeError(f"a view of {self._name}: {error.message}") from None

    def encode(self, value: Any, key: str | None = None) -> BytesLike:
        """Return the bytes of ``value``; refuse what would not come back equal."""
        from pydantic_core import PydanticSerializationError

        reason = ""
        try:
            plain = self._adapter.dump_python(value, mode="json", warnings="error", by_alias=True)
        except (PydanticSerializationError, ValueError) as error:
            wrong = [f"{field or 'the value'}: not {kind}" for kind, field in _UNEXPECTED.findall(str(error))]
            reason = ", ".join(wrong) or str(error)
        if reason:  # outside of the except block: pydantic's own error shows values
            raise FormatError(f"not a {self._name} that JSON can hold: {reason}")
        data = encode(plain, key)
        if not _same(self.decode(data, None, key), value):
            raise FormatError(f"what comes back of it as {self._name} is not equal; is it one, with fields that last?")
        return data

    def decode(
        self,
        data: BytesLike,
        format: str | None = None,  # noqa: A002
        key: str | None = None,
        *,
        max_bytes: int | None = None,
    ) -> Any:
        """Return the value of ``data``; with a ``format`` it is read as that, untyped."""
        from pydantic import ValidationError

        value = decode(data, format, key, max_bytes=max_bytes)
        if format is not None:
            return value
        try:
            return self._adapter.validate_python(value, by_alias=True)
        except ValidationError as error:
            reason = self._reason(error)
        with suppress(TypeError):  # of what is no JSON
            text = json.dumps(value)
            try:  # a strict type takes text for a datetime from JSON alone
                return self._adapter.validate_json(text, by_alias=True)
            except ValidationError as error:
                reason = self._reason(error)
        raise FormatError(reason)  # outside of the except block: pydantic's own error shows values

    def _reason(self, error: ValidationError) -> str:
        told = []
        is_older = False
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            field = ".".join(map(str, detail["loc"])) or "the value"
            is_missing = detail["type"] in ("missing", "missing_argument")
            is_older |= is_missing
            told.append(f"{field}: {'is missing' if is_missing else detail['msg']}")
        advice = "; if an older version wrote it, give the field a default" if is_older else ""
        return f"not a {self._name}: {', '.join(told)}{advice}"


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types, NaN being equal to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(item, other[key]) for key, item in one.items())
    if is_dataclass(one) or hasattr(one, "__pydantic_fields__"):
        return _same(_fields(one), _fields(other))
    return bool(one == other) or (one != one and other != other)


def _fields(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {name: getattr(value, name) for name, field in value.__dataclass_fields__.items() if field.compare}
    return {**value.__dict__, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
