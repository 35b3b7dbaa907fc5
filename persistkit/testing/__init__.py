"""BackendContract: the tests every backend passes, those shipped here and yours."""

from __future__ import annotations

from persistkit.testing.batches import BatchesContract
from persistkit.testing.listings import ListingsContract
from persistkit.testing.sharing import SharingContract
from persistkit.testing.streams import StreamsContract
from persistkit.testing.values import ValuesContract

__all__ = ["BackendContract"]


def __dir__() -> list[str]:
    return __all__


class BackendContract(ValuesContract, BatchesContract, ListingsContract, StreamsContract, SharingContract):
    """The contract of ``PersistenceBackend`` as tests, for a backend of your own.

    Subclass it in a test module, under a name that begins with ``Test``, and say how to make an empty backend; pytest
    with the plugin that anyio brings runs the rest, with nothing to configure. Listing is put to the test where the
    backend overrides ``entries``; where it does not, the tests see that it says so.

    Give ``read_raw`` where there is a second way to what was stored (the file, the row): then each value saved is
    also read back by it. What a test needs (a folder, a server) comes by a fixture of the subclass with
    ``autouse=True``. For full explanations of failures, write
    ``pytest.register_assert_rewrite("persistkit.testing")`` in ``conftest.py``.

    Attributes:
        tries_the_limit: set it to True where ``max_value_bytes`` states a limit of at most 8 GiB: then a value above
            it is tried too. A test says when it ought to be set.

    Example:
        >>> from persistkit import MemoryPersistenceBackend
        >>> class TestMemory(BackendContract):
        ...     def make_backend(self) -> PersistenceBackend:
        ...         return MemoryPersistenceBackend()
    """
