"""StreamsContract: values as file objects."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO, Final, cast

import pytest

from persistkit.arguments import BytesLike
from persistkit.engine import Engine
from persistkit.testing.contract import Contract
from persistkit.testing.values import LARGE

__all__ = ["StreamsContract"]

_CHUNK: Final = 3 * 1024 * 1024


class StreamsContract(Contract):
    """A value is read as a file is; what is written to a file object appears whole or not at all."""

    def test_a_value_is_read_as_a_file(self, engine: Engine) -> None:
        """A reader is readable and seekable, and None for a missing key."""
        assert engine.open_reader("missing") is None
        engine.save("key", LARGE)
        reader = engine.open_reader("key")
        assert isinstance(reader, io.BufferedIOBase)
        with reader:
            assert reader.readable()
            assert reader.seekable()
            chunks = [reader.read(5)]
            while chunk := reader.read(_CHUNK):
                chunks.append(chunk)
            assert max(map(len, chunks)) <= _CHUNK
            assert b"".join(chunks) == LARGE
            assert reader.read() == b""
            assert reader.seek(-3, io.SEEK_END) == reader.tell() == len(LARGE) - 3
            assert reader.read() == LARGE[-3:]
            reader.seek(0)
            buffer = bytearray(70_000)
            assert reader.readinto(buffer) == len(buffer)
            assert buffer == LARGE[:70_000]
            assert reader.read() == LARGE[70_000:]

    def test_a_value_is_written_in_chunks(self, engine: Engine) -> None:
        """What is written appears, whole, when the block ends, and not before."""
        engine.save("key", b"old")
        with engine.open_writer("key") as writer:
            for start in range(0, len(LARGE), _CHUNK):
                writer.write(memoryview(LARGE)[start : start + _CHUNK])
            assert engine.load("key") == b"old"
        self._check(engine, "key", LARGE)
        with engine.open_writer("empty"):
            pass
        self._check(engine, "empty", b"")

    def test_chunks_are_what_values_are(self, engine: Engine) -> None:
        """A writer takes every chunk that ``save`` takes as a value, and refuses anything else."""
        chunks: list[BytesLike] = [b"one", bytearray(b"two"), memoryview(b"-s-p")[1::2], memoryview(b"wide").cast("H")]
        with engine.open_writer("key") as writer:
            for chunk in chunks:
                writer.write(chunk)
        self._check(engine, "key", b"onetwospwide")
        for wrong in ("text", None, 7):
            with pytest.raises(TypeError), engine.open_writer("wrong") as writer:
                writer.write(wrong)  # type: ignore[call-overload]
        self._check(engine, "wrong", None)

    def test_file_objects_serve_those_who_take_files(self, engine: Engine) -> None:
        """A zip archive is written to a writer and read from a reader."""
        with engine.open_writer("key") as writer, zipfile.ZipFile(writer, "w") as archive:
            archive.writestr("member", LARGE[:100_000])
        reader = engine.open_reader("key")
        assert reader is not None
        with reader, zipfile.ZipFile(cast("BinaryIO", reader)) as archive:
            assert archive.read("member") == LARGE[:100_000]

    def test_a_failing_writer_leaves_the_old_value(self, engine: Engine) -> None:
        """An exception in a writer's block discards what was written, and nothing of it is listed."""
        engine.save("key", b"old")
        for key in ("key", "new"):
            with pytest.raises(ZeroDivisionError):
                _write_and_fail(engine, key)
        self._check(engine, "key", b"old")
        self._check(engine, "new", None)
        if self._lists(engine):
            assert [entry.key for entry in engine.entries()] == ["key"]


def _write_and_fail(engine: Engine, key: str) -> None:
    with engine.open_writer(key) as writer:
        writer.write(b"half")
        raise ZeroDivisionError
