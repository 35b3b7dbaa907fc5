"""Caching: the results of a function as values of a store, under readable keys."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache, wraps
from hashlib import sha256
from operator import itemgetter
from textwrap import dedent
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, Self, TypeVar, cast, overload

from persistkit.backend import EngineBackend
from persistkit.errors import FormatError
from persistkit.formats import encode
from persistkit.locking import lock_attempts, pause_after
from persistkit.workers import shield_until_done

if TYPE_CHECKING:
    from persistkit.mapping import StoreMapping

__all__ = ["CachedFunction", "P", "R", "cached"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# The repr of these is one text for each value, and takes a fifth of the time of encoding.
_PLAIN: Final = frozenset({bool, float, int, str, type(None)})
_LARGE: Final = 10**1000  # beyond 4,300 digits Python refuses to write a number


class CachedFunction(Protocol[P, R_co]):
    """A function whose results are kept in a store; the function itself is ``__wrapped__``."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the result for these arguments, computed if it is not there."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> Callable[..., R_co]: ...

    def keys(self) -> list[str]:
        """Return the keys of the results, those of other versions of the function included."""

    def clear(self) -> None:
        """Remove the results, those of other versions of the function included."""


def cached(
    store: StoreMapping[Any], function: Callable[P, R], name: str | None, ignore: Collection[str]
) -> CachedFunction[P, R]:
    """Return the function that looks into ``store`` first; see ``Store.cache``."""
    results = _Results(store, function, name, ignore)
    call = wraps(function)((_awaited if inspect.iscoroutinefunction(function) else _called)(results))
    vars(call).update(keys=results.keys, clear=results.clear, _results=results)
    results.call = call
    return cast("CachedFunction[P, R]", call)


def _called(results: _Results) -> Callable[..., Any]:
    store, function = results.store, results.function

    def call(*args: Any, **kwargs: Any) -> Any:
        key = results.key_of(args, kwargs)
        data = store.engine.load_buffer(key)
        if data is None and store.read_only:
            return function(*args, **kwargs)
        if data is None:
            with store.engine.lock(key):
                data = store.engine.load_buffer(key)  # who had the lock has perhaps stored it
                if data is None:
                    store[key] = value = function(*args, **kwargs)
                    return value
        return store._value(key, data)

    return call


def _awaited(results: _Results) -> Callable[..., Any]:
    store, function = results.store, results.function
    backend = EngineBackend(store.engine)

    async def call(*args: Any, **kwargs: Any) -> Any:
        key = results.key_of(args, kwargs)
        data = await backend.load(key)
        if data is None and store.read_only:
            return await function(*args, **kwargs)
        if data is None:
            attempts = lock_attempts(store.engine, key, asyncio.current_task())
            try:
                began = time.monotonic()
                while not await backend._run(next, attempts):  # noqa: ASYNC110 - other processes set no events
                    await asyncio.sleep(pause_after(time.monotonic() - began))
                data = await backend.load(key)
                if data is None:
                    value = await function(*args, **kwargs)
                    await backend.save(key, store._encoded(key, value))
                    return value
            finally:
                await shield_until_done(backend._run(attempts.close))
        return store._value(key, data)

    return call


class _Results:
    """Where the results of one function are, and under which keys. Any: arguments of every kind."""

    call: Callable[..., Any]

    def __init__(
        self, store: StoreMapping[Any], function: Callable[..., Any], name: str | None, ignore: Collection[str]
    ) -> None:
        if not isinstance(function, FunctionType):
            kind = type(function).__name__
            advice = f"; write @{kind} above it" if isinstance(function, (staticmethod, classmethod)) else ""
            raise TypeError(f"cache takes a function written in Python, not {kind}{advice}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"cache {function.__qualname__}: what it yields is not kept; let it return a list")
        # A process that was spawned has another name for the main module.
        module = "" if function.__module__ in ("__main__", "__mp_main__") else f"{function.__module__}."
        self.name = name or module + function.__qualname__.replace("<locals>.", "")
        self.store = store
        self.function = function
        self.source_of = _uncached(function)
        self._ignore = frozenset([ignore] if isinstance(ignore, str) else ignore)
        self._prefix = f"cache/{self.name}/"
        self._signature = inspect.signature(function)
        if unknown := self._ignore.difference(self._signature.parameters, self.source_of.__code__.co_freevars):
            raise ValueError(f"cache {self.name}: it has no argument {', '.join(map(repr, unknown))} to ignore")
        self._source = _source(self.source_of.__code__)  # now: the file may be another one later

    def keys(self) -> list[str]:
        start = len(self._prefix)
        keys = self.store.engine.list_keys(self._prefix)
        return [key for key in keys if re.fullmatch("[0-9a-f]{32}", key[start:])]

    def clear(self) -> None:
        self.store._check_writable(f"clear the cache of {self.name}")
        self.store.engine.batch_delete(self.keys())

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the key of the result for these arguments."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            parts = [self._source, self.source_of.__closure__ and _held(self.source_of, self._ignore, ())]
            parts += [
                (name, _part(name, value, ())) for name, value in bound.arguments.items() if name not in self._ignore
            ]
        except FormatError as error:
            raise FormatError(f"cache {self.name}: {error}") from None
        except RecursionError as error:
            raise FormatError(f"cache {self.name}: an argument is nested too deeply, or contains itself") from error
        return self._prefix + sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def _held(function: FunctionType, ignore: Collection[str], within: tuple[FunctionType, ...]) -> list[object]:
    """Return what stands for the values that the closure of a function holds."""
    held: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # nothing is assigned to it yet
            held[name] = cell.cell_contents
    return [(name, _part(name, held[name], (*within, function))) for name in held if name not in ignore]


def _part(path: str, value: Any, within: tuple[FunctionType, ...]) -> object:
    """Return what stands for a value in the key: one text for all equal values of one type, in every process."""
    kind = type(value)
    if kind in _PLAIN and (kind is not int or -_LARGE < value < _LARGE):
        return repr(value)
    if kind is list or kind is tuple:
        return kind.__name__, [_part(f"{path}[{place}]", item, within) for place, item in enumerate(value)]
    if kind is dict:
        pairs = [(repr(_part(path, key, within)), _part(f"{path}[{key!r}]", value[key], within)) for key in value]
        return "dict", sorted(pairs, key=itemgetter(0))
    if kind is bytes:
        return "bytes", sha256(value).digest()
    if kind is FunctionType:
        function = _uncached(value)
        if function in within:
            return within.index(function)
        defaults = _part(path, [function.__defaults__, function.__kwdefaults__], within)
        return _source(function.__code__), _held(function, (), within), defaults
    if isinstance(value, (type, ModuleType)):
        return kind.__name__, getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__)
    if kind is BuiltinFunctionType:
        return "method", value.__name__, _part(path, value.__self__, within)  # of functions it is their module
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not value.flags.c_contiguous:
        value = value.copy(order="C")
    try:
        return sha256(encode(value)).digest()
    except FormatError as error:
        reason, argument = str(error).removeprefix("$: "), path.partition("[")[0]
        raise FormatError(f"{path}: {reason}; to leave it out of the key, write ignore=[{argument!r}]") from None


def _uncached(function: FunctionType) -> FunctionType:
    results = vars(function).get("_results")  # what wraps the cached function has it too
    return results.source_of if isinstance(results, _Results) and results.call is function else function


@lru_cache(1024)
def _source(code: CodeType) -> object:
    try:
        text = inspect.getsource(code)
    except (OSError, TypeError) as error:
        raise TypeError(
            f"cache {code.co_name}: Python cannot read its source; define it in a file or in a notebook"
        ) from error
    if code.co_name != "<lambda>":
        return dedent(text).strip()
    # One line may have several: where the body begins tells which it is.
    indent = len(text) - len(text.lstrip())
    places = [(line, column - indent) for line, _, column, _ in code.co_positions() if line and column]
    return dedent(text).strip(), [(line - code.co_firstlineno, column) for line, column in sorted(places)[:1]]
