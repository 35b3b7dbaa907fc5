"""ValuesContract: one key, one value."""

from __future__ import annotations

import mmap
from typing import ClassVar, Final

import pytest

from persistkit.backend import PersistenceBackend
from persistkit.errors import BatchError, InvalidKeyError, KeyCollisionError, ValueTooLargeError
from persistkit.testing.contract import Contract, lists

__all__ = ["ValuesContract"]


def __dir__() -> list[str]:
    return __all__


_MEBIBYTE: Final = 1024 * 1024
_LARGE: Final = bytes(range(256)) * (16 * _MEBIBYTE // 256)
_TRIABLE_BYTES: Final = 8 * 1024 * _MEBIBYTE

_KEYS: Final = {
    "empty": "",
    "blank": " ",
    "dot": ".",
    "dots": "..",
    "upwards": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "slashes": "a//b/",
    "backslash": "a\\b",
    "template": "session:7f3c:step:12",
    "prompt": "<|im_start|>",
    "ambiguous": "a>_",
    "pattern": "A_%*[x]?{}^$",
    "newline": "line 1\nline 2\r\n\t\x01\x1b\x7f",
    "percent": "100%25%2F%00",
    "filename": "a-000000000002b606.bin",
    "unicode": "日本語/メモ 🦀 é \uffff",
    "longest": "k" * 1024,
    "longest-unicode": "é" * 512,
}
_INVALID_KEYS: Final = {
    "nul": "a\0b",
    "too-long": "k" * 1025,
    "too-long-in-bytes": "é" * 513,
    "surrogate": "\ud800",
    "bytes": b"key",
    "none": None,
}


class ValuesContract(Contract):
    """What is saved under a key is what is loaded, whatever the key and the value."""

    tries_the_limit: ClassVar[bool] = False

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        # Not collected where there is no limit to try: a test that returns early would look like one that passed.
        name = "test_a_value_over_the_limit_is_refused_before_it_is_sent"
        setattr(cls, name, getattr(ValuesContract, name) if cls.tries_the_limit else None)

    @pytest.mark.parametrize("key", _KEYS.values(), ids=_KEYS)
    async def test_any_key_is_stored_under_its_own_name(self, backend: PersistenceBackend, key: str) -> None:
        """A saved value is loaded again, replaced and removed, whatever its key."""
        await self._check(backend, key, None)
        await backend.save(key, b"first")
        await self._check(backend, key, b"first")
        await backend.save(key, b"2")
        await self._check(backend, key, b"2")
        if lists(backend):
            assert await backend.list_keys() == [key]
        await backend.delete(key)
        await self._check(backend, key, None)
        await backend.delete(key)

    @pytest.mark.parametrize("key", _INVALID_KEYS.values(), ids=_INVALID_KEYS)
    async def test_what_cannot_be_a_key_is_refused(self, backend: PersistenceBackend, key: str) -> None:
        """Every operation refuses a key that some backend could not store."""
        calls = (
            lambda: backend.save(key, b"value"),
            lambda: backend.load(key),
            lambda: backend.delete(key),
            lambda: backend.exists(key),
            lambda: backend.batch_load(["good", key]),
            lambda: backend.batch_delete(["good", key]),
        )
        for call in calls:
            with pytest.raises(InvalidKeyError):
                await call()
        with pytest.raises(InvalidKeyError):
            await backend.batch_save({"good": b"value", key: b"value"})
        await self._check(backend, "good", None)

    @pytest.mark.parametrize("value", ["text", None, 3, ["list"]], ids=["text", "none", "number", "list"])
    async def test_what_is_not_bytes_is_refused(self, backend: PersistenceBackend, value: bytes) -> None:
        """A value that is not bytes-like is refused, alone and in a batch, and nothing is stored."""
        with pytest.raises(TypeError):
            await backend.save("key", value)
        with pytest.raises(TypeError):
            await backend.batch_save({"good": b"value", "key": value})
        await self._check(backend, "key", None)
        await self._check(backend, "good", None)

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\0", _LARGE], ids=["empty", "all", "nul", "16-MiB"])
    async def test_values_come_back_byte_for_byte(self, backend: PersistenceBackend, value: bytes) -> None:
        """Values of any bytes, none at all and 16 MiB, are kept byte for byte, and their size is listed."""
        await backend.save("key", value)
        await self._check(backend, "key", value)
        if lists(backend):
            assert [entry.size async for entry in backend.entries()] == [len(value)]

    async def test_a_bytearray_is_stored_as_it_was(self, backend: PersistenceBackend) -> None:
        """Bytearrays and memory views are stored, and what becomes of them later does not matter."""
        value = bytearray(b"before")
        await backend.save("array", value)
        spaced: memoryview[int] = memoryview(bytes(value))[::2]
        await backend.batch_save([("view", spaced), ("array in a batch", value)])
        value[:] = b"after."
        await self._check(backend, "array", b"before")
        await self._check(backend, "array in a batch", b"before")
        await self._check(backend, "view", b"bfr")

    async def test_a_limit_is_stated_where_it_is_tried(self, backend: PersistenceBackend) -> None:
        """``tries_the_limit`` is True exactly where the backend states a limit of at most 8 GiB."""
        limit = backend.max_value_bytes
        assert self.tries_the_limit is (limit is not None and limit <= _TRIABLE_BYTES)

    async def test_a_value_over_the_limit_is_refused_before_it_is_sent(self, backend: PersistenceBackend) -> None:
        """A value larger than the stated limit is refused without being sent, and the old one stays."""
        assert backend.max_value_bytes is not None
        await backend.save("key", b"old")
        # Pages of a mapping that nobody touches take no memory.
        value = memoryview(mmap.mmap(-1, backend.max_value_bytes + 1))
        with pytest.raises(ValueTooLargeError):
            await backend.save("key", value)
        with pytest.raises((ValueTooLargeError, BatchError)):
            await backend.batch_save({"key": value})
        await self._check(backend, "key", b"old")

    async def test_two_keys_never_share_a_value(self, backend: PersistenceBackend) -> None:
        """Keys that look alike, or hash alike, are kept apart, or the second is refused by name."""
        groups = (
            ("a?>", "a>_"),
            ("Case", "case"),
            ("<|im", ">:im"),
            ("é", "e\u0301"),
            ("a/b", "a_b", "a\\b"),
            ("x", "x ", " x", "x/"),
        )
        for group in groups:
            stored: dict[str, bytes] = {}
            for key in group:
                try:
                    await backend.save(key, key.encode())
                except KeyCollisionError:
                    pass
                else:
                    stored[key] = key.encode()
            assert stored, "the first of a group is always taken"
            for key in group:
                await self._check(backend, key, stored.get(key))
