"""Store: what a person types in a notebook; typed values under text keys, tables of them, a browser."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Never, Self, Unpack, overload

from persistkit import views
from persistkit.engines import open_engine, shown_address
from persistkit.engines.addresses import Options
from persistkit.engines.prefix import PrefixEngine
from persistkit.moving import move, rename
from persistkit.progress import Progress
from persistkit.pruning import Age, Rules, prune
from persistkit.reports import Reports
from persistkit.selection import Selection
from persistkit.staging import store_all
from persistkit.suggestions import spelling_of
from persistkit.views import Errors, T, V

if TYPE_CHECKING:
    import pandas as pd

    from persistkit.aio import AsyncStore
    from persistkit.caching import CachedFunction, P, R

__all__ = ["Store", "open"]


def open(  # noqa: A001 - persistkit.open is its name; nobody imports it bare
    address: str | PathLike[str], *, create: bool = False, read_only: bool = False, **options: Unpack[Options]
) -> Store[Any]:
    """Open the store at a path, or at an address of another engine (see ``persistkit.open_engine``).

    A mistyped path is an error, not a new empty store, unless ``create`` is given; with ``read_only`` every write is
    refused. The arguments, the ``options`` of each engine and the errors are those of ``open_engine``.

    Example:
        >>> with open("memory:") as store:
        ...     store["run/1"] = {"loss": 0.25}
        ...     store["run/1"]
        {'loss': 0.25}
    """
    engine = open_engine(address, create=create, read_only=read_only, **options)
    return Store(engine, address=shown_address(address))


class Store(Reports[T]):
    """Typed values under text keys: a mapping over an engine.

    What goes in comes back equal or is refused with a ``FormatError`` (see ``persistkit.formats``). Iteration and
    ``len`` are over the known keys, sorted; ``to_frame`` shows everything stored. Works inside a running event loop
    and from any thread.

    A damaged value, such as half an array, raises ``FormatError`` where it is asked for: ``store[key]``. What must go
    on takes its bytes instead: ``get`` and ``pop`` return them (never the default, or ``get`` and save would destroy
    what can still be repaired), ``==`` compares them, and bulk reads do as their ``errors`` says.

    ``store[key] += 1`` is two steps, and ``store[key]["a"] = 2`` changes nothing stored; ``add``, ``setdefault`` and
    ``modify`` are one step, between threads, processes and, on servers, machines.

    Args:
        engine: where the bytes are; also another store, or a backend.
        read_only: refuse every write with ``ReadOnlyError`` before any I/O, on every path this store hands out.
        address: how to name the place in reprs; the engine's own name by default.
        type: of all values, as for ``view``.

    Attributes:
        engine: the bytes, for whoever wants them: ``store.engine.load(key)``.
        read_only: whether every write is refused.
        address: the name of the place.
    """

    def __repr__(self) -> str:
        return f"Store({self.address!r}{', read_only=True' if self.read_only else ''})"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            # Whoever comes from an engine or a backend is led back to it.
            what = f"{type(self).__name__!r} object has no attribute {name!r}; {spelling_of(name)}"
            raise AttributeError(what, name=name, obj=self)

    def __reduce__(self) -> tuple[object, ...]:
        # A worker opens the place anew; what the engine does not pickle (credentials) comes from its environment.
        return partial(type(self), address=self.address, type=self._type), (self.engine,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the engine holds; using the store again opens it anew."""
        self.engine.close()

    @cached_property
    def aio(self) -> AsyncStore[T]:
        """The same values, awaited: ``await store.aio.load(key)``."""
        from persistkit.aio import AsyncStore

        return AsyncStore(self)

    # Keys

    def keys(  # type: ignore[override]  # a list is what people index
        self, prefix: str = "", *, keys: Iterable[str] | None = None, glob: str | None = None
    ) -> list[str]:
        """Return the known keys, sorted; those of ``keys`` that are not there are left out.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.

        Args:
            prefix: literal text.
            keys: whole keys.
            glob: a pattern for the whole key: ``*`` is any text, ``/`` and ``:`` included, ``?`` any character,
                ``[ab]`` and ``[!ab]`` one that is, or is not, among them. Letter case counts.

        Raises:
            TypeError: ``keys`` is one text, or ``prefix`` or ``glob`` is not text.
        """
        return Selection(keys, prefix, glob).list_keys(self.engine)

    @overload
    def view(self, prefix: str) -> Store[T]: ...

    @overload
    def view(self, prefix: str, type: type[V]) -> Store[V]: ...

    def view(self, prefix: str, type: Any = None) -> Store[Any]:  # noqa: A002
        """Return the keys that start with ``prefix``, without it, as a store of its own with everything a store has.

        Args:
            prefix: literal text.
            type: of the values: a dataclass, a pydantic model, a TypedDict (of ``typing_extensions`` before Python
                3.12) or an enum, written and validated by pydantic; without it, values as in this store. A bad value
                is a ``FormatError`` that names key and field, of ``get`` and ``pop`` too.

        Raises:
            ImportError: pydantic is not installed, and there is a ``type``.
            TypeError: ``prefix`` is not text, or pydantic does not know what to do with ``type``.

        Example:
            >>> store = open("memory:")
            >>> store["run/1"] = {"loss": 0.25}
            >>> dict(store.view("run/"))
            {'1': {'loss': 0.25}}
        """
        engine = PrefixEngine(self._inner, prefix)
        address = f"{self.address}, below {prefix!r}"
        return Store(engine, read_only=self.read_only, address=address, type=type or self._type)

    @overload
    def cache(self, function: Callable[P, R], /) -> CachedFunction[P, R]: ...

    @overload
    def cache(
        self, /, *, name: str | None = None, ignore: Collection[str] = ()
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...

    def cache(self, function: Any = None, /, *, name: str | None = None, ignore: Collection[str] = ()) -> Any:
        """Keep the results of a function in this store: ``@store.cache`` above ``def`` or ``async def``.

        A result is stored under ``cache/<function>/<hash>``, and a call whose result is there returns it, without a
        lock. The hash is of

        * the arguments, defaults included, by the bytes this store would keep them in: what it takes can be an
          argument. 1, 1.0 and True are three, and the order of a dict counts for nothing;
        * the function's source text, and the values its closure holds, functions by their source, classes and modules
          by their name.

        Not taken into account: global variables, the functions it calls, files, versions of packages. Change them,
        and ``clear()``. When several threads, processes or machines ask at once, one computes while the others wait,
        and another one goes on if it dies: exactly once on files, SQLite and PostgreSQL; on Redis and object stores
        the lock is a lease, so more than once if the one who computes cannot renew it for 20 seconds. What is raised
        is not kept, and the next one computes. In a store that was opened read only results are found, not kept.

        The function that is returned has ``keys()`` and ``clear()``, for all its versions, and ``__wrapped__``.

        Args:
            function: written in Python, no generator. Of a method ``self`` is an argument too.
            name: what the keys say instead of module and name; leave it out in ``@store.cache``.
            ignore: arguments, and variables of its closure, that do not count, such as ``["self", "client"]``.

        Raises:
            TypeError: ``function`` is none, or its source cannot be read.
            ValueError: ``ignore`` names what it has not.
            FormatError: by a call: an argument or the result cannot be stored.
        """
        from persistkit.caching import cached  # here, because few cache

        def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
            return cached(self, function, name, ignore)

        return decorate if function is None else decorate(function)

    # Many values

    def load_many(
        self,
        keys: Iterable[str] | None = None,
        errors: Errors = "raise",
        *,
        prefix: str = "",
        glob: str | None = None,
        progress: bool = True,
    ) -> dict[str, T]:
        """Return values by key, in batches: of ``keys`` in their order, or else sorted by key.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        Damaged ones do as ``errors`` says, as in ``items``. A bar shows when it takes over a second and ``progress`` is
        True.

        Raises:
            KeyError: nothing is stored under one of ``keys``.
            FormatError: one of the values is damaged (``errors="raise"``).
        """
        views.check_errors(errors)
        wanted = Selection(keys, prefix, glob).named_or_listed(self.engine)
        missing = None if keys is None else self._missing
        with Progress(len(wanted), "loading", shown=progress) as bar:
            return dict(views.read_values(self.engine, wanted, errors, self._decode, progress=bar, missing=missing))

    def update(  # type: ignore[override]  # progress is no key
        self, other: Any = (), /, *, progress: bool = True, **more: T
    ) -> None:
        """Store the values of ``other`` and ``more``, with a bar when it takes over a second and ``progress`` is True.

        Takes what ``dict.update`` takes. Every value is checked before the first one is stored, and on SQL it is one
        transaction; beyond 256 MiB they wait in a temporary file. An iterator, such as a generator, is checked and
        stored batch by batch, and no more than a batch is in memory.

        Raises:
            FormatError: a value cannot be stored; but for an iterator's earlier batches, nothing was.
            ValueError: an item is no pair of key and value.
            BatchError: the storage refused some of them.
        """
        if not isinstance(progress, bool):  # a key given by name
            raise TypeError(f"progress is True or False; to store a value under that key: {{'progress': {progress!r}}}")
        self._check_writable("update")
        store_all(self.engine, other, more, self._encoded, prefix=self._prefix, progress=progress)

    def clear(self, *, keys: Iterable[str] | None = None, prefix: str = "", glob: str | None = None) -> None:
        """Remove the known keys, in batches; no error for those of ``keys`` that are not there.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        """
        self._check_writable("clear")
        self.engine.batch_delete(Selection(keys, prefix, glob).named_or_listed(self.engine))

    def prune(
        self,
        *,
        older_than: Age | None = None,
        keep_last: int | None = None,
        max_bytes: float | None = None,
        keys: Iterable[str] | None = None,
        prefix: str = "",
        glob: str | None = None,
        dry_run: bool = True,
        progress: bool = True,
    ) -> pd.DataFrame:
        """Return which values are old, and why; with ``dry_run=False`` they are removed.

        Which keys: those in the list ``keys`` that start with ``prefix`` and match ``glob``, as far as these are given.
        What goes must fall under each rule that is given; ``keep_last`` and ``max_bytes`` count within the selection,
        from the newest on. What was changed since it was looked at stays, and so does what is saved while this works;
        how exact that is, the engine says (``Engine.delete_unchanged``). Where no time is known (Redis keeps none), or
        no key, nothing goes. It may be interrupted and done again.

        Args:
            older_than: text such as ``"30 days"``, ``"12 hours"`` or ``"2 weeks"``, a timedelta, or a datetime; one
                without zone is in UTC.
            keep_last: so many of the newest stay.
            max_bytes: the newest stay as long as they have no more than so many bytes together.
            keys: whole keys.
            prefix: literal text.
            glob: a pattern, as for ``keys()``.
            dry_run: remove nothing.
            progress: show a bar when it takes longer than a second.

        Returns:
            Columns ``key``, ``size``, ``modified``, ``outcome`` (``goes`` in a dry run, else ``gone``, or ``stays``)
            and ``why``, sorted by key; of what stays, only what was changed, or has no time or no known key.

        Raises:
            ValueError: no rule is given, or one that cannot be.
            TypeError: ``older_than`` is something else.

        Example:
            >>> import persistkit
            >>> store = persistkit.open("memory:")
            >>> store.update({"run/1": 1, "run/2": 2, "run/3": 3})
            >>> store.prune(prefix="run/", keep_last=2, dry_run=False)["why"].tolist()
            ['not among the newest 2']
        """
        if not dry_run:
            self._check_writable("prune")
        rules = Rules(older_than, keep_last, max_bytes)
        return prune(self.engine, Selection(keys, prefix, glob), rules, dry_run=dry_run, progress=progress)

    def rename(self, old: str, new: str) -> None:
        """Move the value of ``old`` to ``new``; its time goes with it, where the engine can.

        The value is whole under ``new`` before ``old`` goes, so an interrupt loses nothing, and it may be done again.
        A value that somebody saves under ``old`` meanwhile stays there; how exact that is, the engine says
        (``Engine.rename``).

        Raises:
            KeyError: nothing is stored under ``old``.
            KeyCollisionError: ``new`` shares its filename with another key.
            PersistenceError: another value is stored under ``new``; nothing was moved.
        """
        self._check_writable("rename", old)
        rename(self.engine, old, new, self._missing)

    def move(self, prefix: str, new_prefix: str, *, progress: bool = True) -> int:
        """Move all values whose key starts with ``prefix`` to ``new_prefix``, as ``rename``; return how many.

        All new keys are looked at first: if another value is stored under one, nothing is moved. What starts with
        ``new_prefix`` already is where it belongs, as after an interrupt. A bar shows when it takes longer than a
        second and ``progress`` is True.

        Raises:
            InvalidKeyError: one of the new keys would be too long; nothing was moved.
            KeyCollisionError: one of the new keys shares its filename with another key; those before it were moved.
            PersistenceError: another value is stored under one of them, or it is to be moved itself; nothing was moved.
        """
        self._check_writable("move")
        return move(self.engine, prefix, new_prefix, progress=progress)
