"""The contract on a real Valkey server, and what RedisPersistenceBackend promises beyond it."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from servers import free_port
from redis import Redis

from persistkit import PersistenceBackend
from persistkit.backends.redis import RedisPersistenceBackend
from persistkit.errors import BatchError, StorageError
from persistkit.testing import BackendContract


def client_of(address: str) -> Redis:
    """Return the engine's own client, without an event loop."""
    return Redis.from_url(address.replace("valkey://", "redis://"))


@pytest.fixture(autouse=True)
def client(valkey_address: str) -> Iterator[Redis]:
    """Empty the database, and give a client for the second route."""
    with client_of(valkey_address) as client:
        client.flushdb()
        yield client


class TestValkey(BackendContract):
    """RedisPersistenceBackend on Valkey, read back by a plain client."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _server(self, valkey_address: str, client: Redis) -> None:
        self.address = valkey_address
        self.client = client

    def make_backend(self) -> PersistenceBackend:
        """Use the emptied database."""
        return RedisPersistenceBackend(self.address)

    async def read_raw(self, backend: PersistenceBackend, key: str) -> bytes | None:  # noqa: ARG002 - the server is the route
        """Ask the server."""
        value = self.client.get(b"persistkit:" + key.encode())
        assert value is None or isinstance(value, bytes)
        return value


async def test_what_others_keep_is_not_listed(valkey_address: str, client: Redis) -> None:
    """Other namespaces, other types and names that are not text are left alone; reading another type is an error."""
    client.set("elsewhere", "value")
    client.rpush("persistkit:list", "value")
    client.set(b"persistkit:\xff", "value")
    async with RedisPersistenceBackend(valkey_address) as backend:
        await backend.save("mine", b"")
        assert [(entry.key, entry.size) async for entry in backend.entries()] == [("mine", 0)]
        assert await backend.key_count() == 1
        with pytest.raises(StorageError, match="'list'"):
            await backend.load("list")


async def test_namespaces_with_pattern_characters_are_apart(valkey_address: str) -> None:
    """A namespace is literal text, as a prefix is."""
    async with (
        RedisPersistenceBackend(valkey_address, namespace="a*:") as starred,
        RedisPersistenceBackend(valkey_address, namespace="ab:") as plain,
    ):
        await starred.save("key", b"starred")
        await plain.save("other", b"plain")
        assert await starred.list_keys() == ["key"]
        assert await plain.list_keys() == ["other"]


async def test_a_refused_item_leaves_the_others_stored(valkey_address: str, client: Redis) -> None:
    """When the server refuses items of a batch, the error names them, and reading them is an error as well."""
    client.acl_setuser("limited", enabled=True, passwords="+s3cret", keys=["persistkit:good*"], categories=["+@all"])
    address = valkey_address.replace("://", "://limited:s3cret@")
    async with RedisPersistenceBackend(address) as backend:
        with pytest.raises(BatchError, match="bad") as caught:
            await backend.batch_save({"good:1": b"1", "bad": b"2", "good:2": b"3"})
        assert set(caught.value.failures) == {"bad"}
        assert await backend.batch_load(["good:1", "good:2"]) == [b"1", b"3"]
        with pytest.raises(BatchError):
            await backend.batch_load(["good:1", "bad"])
        assert "s3cret" not in repr(backend) + str(caught.value) + repr(pickle.dumps(backend))


async def test_the_password_may_come_from_the_environment(
    valkey_address: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled backend, which carries no password, takes it from the variable of the command line client."""
    client.acl_setuser("secretive", enabled=True, passwords="+s3cret", keys=["*"], categories=["+@all"])
    original = RedisPersistenceBackend(valkey_address.replace("://", "://secretive@"), password="s3cret")  # noqa: S106
    await original.save("key", b"value")
    await original.aclose()
    again = pickle.loads(pickle.dumps(original))  # noqa: S301 - its own bytes
    monkeypatch.setenv("REDISCLI_AUTH", "s3cret")
    async with again:
        assert await again.load("key") == b"value"


async def test_a_server_that_is_not_there_is_an_error() -> None:
    """A refused connection is an error soon, never a missing value."""
    began = time.monotonic()
    async with RedisPersistenceBackend(f"redis://:s3cret@127.0.0.1:{free_port()}", timeout_seconds=5) as backend:
        with pytest.raises(StorageError, match=r"load 'key' in .*127\.0\.0\.1") as caught:
            await backend.load("key")
    assert "s3cret" not in str(caught.value)
    assert time.monotonic() - began < 5


async def test_a_server_that_hangs_is_an_error_within_the_timeout(valkey_address: str, client: Redis) -> None:
    """A stopped server makes an error that tells the timeout, and the backend works again when it goes on."""
    information = client.info("server")
    assert isinstance(information, dict)
    async with RedisPersistenceBackend(valkey_address, timeout_seconds=1) as backend:
        await backend.save("key", b"old")
        os.kill(information["process_id"], signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(StorageError, match="no answer within 1 s"):
                await backend.save("key", b"new")
        finally:
            os.kill(information["process_id"], signal.SIGCONT)
        assert time.monotonic() - began < 3
        assert await backend.load("key") in {b"old", b"new"}


async def test_a_batch_to_a_server_that_hangs_waits_once() -> None:
    """A batch of several pipelines waits for the timeout once, not once for each of them, and names every key."""
    keys = [f"key:{number}" for number in range(5000)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        async with RedisPersistenceBackend(address, timeout_seconds=1) as backend:
            for call in (
                lambda: backend.batch_save(dict.fromkeys(keys, b"value")),
                lambda: backend.batch_load(keys),
                lambda: backend.batch_delete(keys),
            ):
                began = time.monotonic()
                with pytest.raises(BatchError, match="no answer within 1 s") as caught:
                    await call()
                assert time.monotonic() - began < 4
                assert set(caught.value.failures) == set(keys)


@pytest.mark.parametrize("address", ["redis://", "http://host", "nonsense"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    """What is not an address of Redis or Valkey is refused when the backend is made."""
    with pytest.raises(ValueError, match="redis://"):
        RedisPersistenceBackend(address)


async def test_cancelling_waits_for_the_answer(valkey_address: str, client: Redis) -> None:
    """After a cancelled save has returned, nothing changes behind the caller's back."""
    async with RedisPersistenceBackend(valkey_address) as backend:
        task = asyncio.ensure_future(backend.save("key", b"cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        client.set("persistkit:key", "later")
        assert await backend.load("key") == b"later"
