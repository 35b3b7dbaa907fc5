"""The contract on objects: obstore's memory store and a real S3 server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import pickle
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import obstore
import pytest
from servers import S3Server, free_port
from obstore.store import MemoryStore

from persistkit import FilePersistenceBackend, PersistenceBackend
from persistkit.backends.objects import ObjectPersistenceBackend
from persistkit.errors import BatchError, KeyCollisionError, StorageError
from persistkit.filenames import filename_for
from persistkit.testing import BackendContract

_CONTROL = re.compile(r"[\0-\x1f\x7f]")


class TestMemoryStore(BackendContract):
    """ObjectPersistenceBackend on obstore's memory store, read back by obstore."""

    def make_backend(self) -> PersistenceBackend:
        """Make an empty store."""
        self.store = MemoryStore()
        return ObjectPersistenceBackend(self.store)


class TestS3(BackendContract):
    """ObjectPersistenceBackend on SeaweedFS, read back by a plain client."""

    @pytest.fixture(autouse=True)
    def _bucket(self, s3_server: S3Server) -> None:
        self.server = s3_server
        self.prefix = s3_server.new_prefix()

    def make_backend(self) -> PersistenceBackend:
        """Use a prefix of its own."""
        return ObjectPersistenceBackend(
            f"s3://{self.server.bucket}/{self.prefix}", timeout_seconds=30, **self.server.options
        )

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:
        """Ask the server for the object of the filename."""
        if await backend.load(key) is None:
            return None
        name = filename_for(key)
        escaped = "".join(quote(letter) if letter < " " or letter in "\x7f\ufffe\uffff" else letter for letter in name)
        store = self.server.client(self.prefix)
        return bytes(await (await obstore.get_async(store, escaped)).bytes_async())


def backend_on(server: S3Server, prefix: str, **options: str) -> ObjectPersistenceBackend:
    """Open a prefix of the server's bucket."""
    return ObjectPersistenceBackend(f"s3://{server.bucket}/{prefix}", timeout_seconds=20, **server.options | options)


async def test_a_directory_and_a_bucket_hold_the_same_names(s3_server: S3Server, tmp_path: Path) -> None:
    """Every file of a directory, copied as it is named, is a working store in a bucket, and the other way round."""
    named = json.loads((Path(__file__).parent / "data" / "filenames.json").read_text())
    keys = [*named, "<|im_start|>", "a>_", "k" * 1024, "日本語/メモ"]
    keys = [key for key in dict.fromkeys(keys) if len(key.encode()) <= 1024 and "\0" not in key]
    files = FilePersistenceBackend(tmp_path / "there", create=True, fsync=False)
    with contextlib.suppress(BatchError):
        await files.batch_save({key: key.encode() for key in keys})
    # The names the store takes as they are: all but those with control characters.
    unwritable = [path for path in files.base_dir.iterdir() if _CONTROL.search(path.name)]
    assert len(unwritable) == 1
    for path in unwritable:
        path.unlink()
    stored = await files.list_keys()
    assert len(stored) > 380
    prefix = s3_server.new_prefix()
    client = s3_server.client(prefix)
    for path in files.base_dir.iterdir():
        obstore.put(client, path.name, path.read_bytes())
    backend = backend_on(s3_server, prefix)
    assert await backend.list_keys() == stored
    assert await backend.batch_load(stored) == await files.batch_load(stored)
    again = FilePersistenceBackend(tmp_path / "back", create=True, fsync=False)
    for found in obstore.list(client).collect():
        (again.base_dir / found["path"]).write_bytes(bytes(obstore.get(client, found["path"]).bytes()))
    assert await again.list_keys() == stored


async def test_every_key_of_the_reference_is_stored_under_its_name(s3_server: S3Server) -> None:
    """What the reference would write to a file is an object of that name, control characters escaped."""
    named = json.loads((Path(__file__).parent / "data" / "filenames.json").read_text())
    refused = {}
    prefix = s3_server.new_prefix()
    async with backend_on(s3_server, prefix) as backend:
        storable = {key: key.encode() for key in named if len(key.encode()) <= 1024 and "\0" not in key}
        try:
            await backend.batch_save(storable)
        except BatchError as error:
            refused = error.failures
        assert all(isinstance(error, KeyCollisionError) for error in refused.values())
        assert await backend.list_keys() == sorted(storable.keys() - refused)
    names = {found["path"] for found in obstore.list(s3_server.client(prefix)).collect()}
    for key in storable.keys() - refused:
        escaped = _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", filename_for(key))
        assert escaped in names
        assert filename_for(key) == named[key] or len(named[key].encode()) > 251


async def test_control_characters_are_escaped_and_told_apart(s3_server: S3Server) -> None:
    """A key with control characters and one that spells their escape are two keys, listed as they were saved."""
    keys = ["line\nfeed", "line%0Afeed", "del\x7f", "percent%41", "100%", "none\uffff", "none\ufffe", "none%EF%BF%BF"]
    async with backend_on(s3_server, s3_server.new_prefix()) as backend:
        await backend.batch_save({key: key.encode() for key in keys})
        assert await backend.list_keys() == sorted(keys)
        entries = {entry.key: entry.filename async for entry in backend.entries()}
        assert entries == {key: filename_for(key) for key in keys}
        assert await backend.batch_load(keys) == [key.encode() for key in keys]


async def test_of_two_savers_of_one_name_one_claims_it(s3_server: S3Server) -> None:
    """Two keys of one filename, saved at once: one is stored, the other refused, and neither reads the other's."""
    async with backend_on(s3_server, s3_server.new_prefix()) as backend:
        pair = ("a?>", "a>_")
        results = await asyncio.gather(*(backend.save(key, key.encode()) for key in pair), return_exceptions=True)
        stored = [key for key, result in zip(pair, results, strict=True) if result is None]
        assert len(stored) == 1
        assert await backend.batch_load(stored) == [stored[0].encode()]
        assert await backend.list_keys() == stored
        (refused,) = set(pair) - set(stored)
        assert await backend.load(refused) is None
        await backend.delete(refused)
        assert await backend.exists(stored[0])


async def test_a_missing_bucket_is_an_error_not_a_missing_value(s3_server: S3Server) -> None:
    """A bucket that is not there raises, for a load, a listing and a look."""
    async with ObjectPersistenceBackend("s3://nowhere/x", timeout_seconds=20, **s3_server.options) as backend:
        for call in (lambda: backend.load("key"), lambda: backend.exists("key"), lambda: backend.list_keys()):
            with pytest.raises(StorageError, match="s3://nowhere/x"):
                await call()


async def test_wrong_credentials_are_an_error_and_never_shown(s3_server: S3Server) -> None:
    """A refused signature raises; the error, the repr and the pickle do not hold the secret."""
    backend = backend_on(s3_server, "any", secret_access_key="very-s3cret")  # noqa: S106 - a wrong one
    with pytest.raises(StorageError) as caught:
        await backend.load("key")
    assert "s3cret" not in repr(backend) + str(caught.value) + repr(pickle.dumps(backend))


async def test_a_dead_endpoint_fails_within_the_timeout(s3_server: S3Server) -> None:
    """Nobody listens: every operation raises within the stated timeout."""
    options = s3_server.options | {"endpoint": f"http://127.0.0.1:{free_port()}"}
    backend = ObjectPersistenceBackend("s3://state/x", timeout_seconds=2, **options)
    calls = (lambda: backend.load("key"), lambda: backend.save("key", b"value"), lambda: backend.list_keys())
    for call in calls:
        began = time.monotonic()
        with pytest.raises(StorageError, match="s3://state/x"):
            await call()
        assert time.monotonic() - began < 20


async def test_an_endpoint_that_does_not_answer_fails_within_the_timeout(s3_server: S3Server) -> None:
    """Somebody listens and says nothing: the operation raises within the stated timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = s3_server.options | {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        backend = ObjectPersistenceBackend("s3://state/x", timeout_seconds=1, **options)
        began = time.monotonic()
        with pytest.raises(StorageError, match="s3://state/x"):
            await backend.load("key")
        assert time.monotonic() - began < 20


async def test_a_batch_to_a_dead_endpoint_fails_within_the_timeout(s3_server: S3Server) -> None:
    """A batch of many keys waits for the timeout once, not once for each of its keys, and names them all."""
    keys = [f"key:{number}" for number in range(5000)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = s3_server.options | {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        backend = ObjectPersistenceBackend("s3://state/x", timeout_seconds=1, **options)
        for call in (
            lambda: backend.batch_save(dict.fromkeys(keys, b"value")),
            lambda: backend.batch_load(keys),
            lambda: backend.batch_delete(keys),
        ):
            began = time.monotonic()
            with pytest.raises(BatchError, match="s3://state/x") as caught:
                await call()
            assert time.monotonic() - began < 5
            assert set(caught.value.failures) == set(keys)
            failures = caught.value.failures.values()
            assert {getattr(error, "errno", None) for error in failures} <= {errno.ETIMEDOUT, errno.EHOSTUNREACH}


def test_an_unknown_address_is_refused() -> None:
    """What is not the address of an object store is refused, without its credentials."""
    with pytest.raises(ValueError, match="s3://bucket/prefix") as caught:
        ObjectPersistenceBackend("ftp://user:s3cret@host/x")
    assert "s3cret" not in str(caught.value)


async def test_a_large_value_is_uploaded_in_parts(s3_server: S3Server) -> None:
    """A value of several parts is written and read in chunks, and an aborted one leaves the old value."""
    async with backend_on(s3_server, s3_server.new_prefix()) as backend:
        chunk = bytes(range(256)) * 4096
        async with backend.open_writer("large") as writer:
            for _ in range(70):
                await writer.write(chunk)
        async with backend.open_reader("large") as reader:
            assert reader is not None
            assert reader.size == 70 * len(chunk)
            while piece := await reader.read(len(chunk)):
                assert piece == chunk

        async def fail() -> None:
            async with backend.open_writer("large") as writer:
                for _ in range(40):
                    await writer.write(b"x" * len(chunk))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert [entry.size async for entry in backend.entries()] == [70 * len(chunk)]
        async with backend.open_reader("large") as reader:
            assert reader is not None
            assert await reader.read(10) == chunk[:10]


def test_a_forked_child_is_told_to_be_spawned(s3_server: S3Server) -> None:
    """A child of a process that has used an object store gets an error, and never hangs; the parent goes on."""
    script = f"""
import os
from persistkit import BlockingBackend, open_backend
from persistkit.errors import StorageError
backend = BlockingBackend(open_backend("s3://{s3_server.bucket}/{s3_server.new_prefix()}", **{s3_server.options!r}))
backend.save("parent", b"1")
child = os.fork()
if child == 0:
    try:
        backend.load("parent")
    except StorageError as error:
        os._exit(0 if "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitpid(child, 0)[1] == 0
assert backend.load("parent") == b"1"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_child_forked_before_the_first_request_works(s3_server: S3Server) -> None:
    """A backend made before the fork, and not used there, works in the child."""
    script = f"""
import os
from persistkit import BlockingBackend, open_backend
backend = BlockingBackend(open_backend("s3://{s3_server.bucket}/{s3_server.new_prefix()}", **{s3_server.options!r}))
child = os.fork()
if child == 0:
    backend.save("child", b"1")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert backend.load("child") == b"1"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_process_that_has_used_an_object_store_ends_well() -> None:
    """Of many processes that end right after their last answer, none is aborted by the client's threads."""
    script = """
import asyncio, os, sys
from obstore.store import MemoryStore
from persistkit.backends.objects import ObjectPersistenceBackend
async def main():
    backend = ObjectPersistenceBackend(MemoryStore())
    await backend.batch_save({f"key:{number}": b"value" for number in range(100)})
ends = []
for _ in range(60):
    child = os.fork()
    if child == 0:
        asyncio.run(main())
        sys.exit()
    ends.append(os.waitpid(child, 0)[1])
print([end for end in ends if end])
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert run.stdout == "[]\n"
