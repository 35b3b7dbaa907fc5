"""RedisEngine: the contract on a real Valkey server, and what it promises beyond it."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from functools import partial

import pytest
import servers
from redis import Redis

import persistkit
from persistkit.engine import Engine
from persistkit.engines.redis import RedisEngine
from persistkit.errors import BatchError, StorageError
from persistkit.testing import EngineContract
from persistkit.testing.sharing import run_threads


@pytest.fixture(autouse=True)
def client(valkey_address: str) -> Iterator[Redis]:
    """Empty the database, and give a client for the second route."""
    with Redis.from_url(valkey_address.replace("valkey://", "redis://")) as client:
        client.flushdb()
        yield client


class TestValkey(EngineContract):
    """RedisEngine on Valkey, read back by a plain client."""

    tries_the_limit = True

    @pytest.fixture(autouse=True)
    def _server(self, valkey_address: str, client: Redis) -> None:
        self.address = valkey_address
        self.client = client

    def make_engine(self) -> Engine:
        """Use the emptied database."""
        return RedisEngine(self.address)

    def read_raw(self, engine: Engine, key: str) -> bytes | None:  # noqa: ARG002 - the server is the route
        """Ask the server."""
        value = self.client.get(b"persistkit:" + key.encode())
        assert value is None or isinstance(value, bytes)
        return value


def test_lists_and_other_namespaces_are_left_alone(valkey_address: str, client: Redis) -> None:
    """What is not a string under the namespace is not listed; reading it is an error, in a batch too."""
    client.set("elsewhere", "value")
    client.rpush("persistkit:list", "value")
    with RedisEngine(valkey_address) as engine:
        engine.save("mine", b"")
        assert [(entry.key, entry.size) for entry in engine.entries()] == [("mine", 0)]
        assert engine.key_count() == 1
        with pytest.raises(StorageError, match="'list'"):
            engine.load("list")
        with pytest.raises(BatchError) as caught:
            engine.batch_load(["mine", "list", "missing"])
        assert list(caught.value.failures) == ["list"]


def test_names_that_cannot_be_keys_are_listed_without_one(valkey_address: str, client: Redis) -> None:
    """Names of another program, too long, with NUL or not UTF-8, are counted, and spoil nothing for all others."""
    foreign = [b"persistkit:" + name for name in (b"k" * 1025, b"a\0b", b"\xff", "é".encode() * 513)]
    for name in foreign:
        client.set(name, b"12345")
    with RedisEngine(valkey_address) as engine:
        engine.batch_save({"mine": b"1", "k" * 1024: b"2"})
        entries = list(engine.entries())
        assert [(entry.size, entry.filename) for entry in entries if entry.key is None] == [(5, "")] * 4
        assert engine.key_count() == len(entries) == 6
        keys = engine.list_keys()
        assert keys == ["k" * 1024, "mine"]
        assert [entry.key for entry in engine.entries("k")] == ["k" * 1024]
        assert engine.batch_load(keys) == [b"2", b"1"]
    with persistkit.open(valkey_address) as store:
        store.clear()
        store["table"] = {"loss": 0.5}
        assert store.load_many(list(store)) == {"table": {"loss": 0.5}}
        assert list(store.values_frame().index) == ["table"]
        assert store.to_frame()["key"].isna().sum() == 4
        store.clear()
    assert sorted(client.keys("*")) == sorted(foreign)


def test_a_listing_gives_each_key_once_while_the_table_shrinks(valkey_address: str, client: Redis) -> None:
    """A scan repeats keys when many are deleted while it goes on: seen by hand first, then not by the engine."""
    kept = 1_000

    def fill(names: list[bytes]) -> None:
        client.flushdb()
        client.mset(dict.fromkeys(names, b"v"))

    def scan(cursor: int) -> tuple[int, list[bytes]]:
        found: tuple[int, list[bytes]] = client.scan(cursor, match="persistkit:*", count=1000, _type="string")  # type: ignore[assignment]
        return found

    for attempt in range(40):  # seven of ten repeat some, by where the names lie in the table
        names = [b"persistkit:%d:%06d" % (attempt, number) for number in range(20_000)]
        fill(names)
        cursor, scanned = scan(0)
        doomed = sorted(set(names) - set(scanned))[kept:]
        client.delete(*doomed)
        while cursor:
            cursor, page = scan(cursor)
            scanned = scanned + page
        if len(set(scanned)) < len(scanned):
            break
    else:
        pytest.fail("the server repeated nothing: this test needs another way to make it")
    with RedisEngine(valkey_address) as engine:
        fill(names)
        entries = engine.entries()
        keys = [next(entries).key]
        client.delete(*doomed)
        keys += [entry.key for entry in entries]
    assert len(set(keys)) == len(keys) >= kept


def test_namespaces_with_pattern_characters_are_apart(valkey_address: str) -> None:
    """A namespace is literal text, as a prefix is."""
    with RedisEngine(valkey_address, namespace="a*:") as starred, RedisEngine(valkey_address, namespace="ab:") as plain:
        starred.save("key", b"starred")
        plain.save("other", b"plain")
        assert starred.list_keys() == ["key"]
        assert plain.list_keys() == ["other"]


def test_a_refused_item_leaves_the_others_stored(valkey_address: str, client: Redis) -> None:
    """When the server refuses items of a batch, the error names them, and reading them is an error as well."""
    client.acl_setuser("limited", enabled=True, passwords="+s3cret", keys=["persistkit:good*"], categories=["+@all"])
    with RedisEngine(valkey_address.replace("://", "://limited:s3cret@")) as engine:
        with pytest.raises(BatchError, match="bad") as caught:
            engine.batch_save({"good:1": b"1", "bad": b"2", "good:2": b"3"})
        assert set(caught.value.failures) == {"bad"}
        assert engine.batch_load(["good:1", "good:2"]) == [b"1", b"3"]
        with pytest.raises(BatchError) as caught:
            engine.batch_load(["good:1", "bad"])
        assert set(caught.value.failures) == {"bad"}
        with pytest.raises(BatchError, match="look for 'bad'"):
            engine.existing(["good:1", "bad"])


def test_replace_needs_no_right_to_run_scripts(valkey_address: str, client: Redis) -> None:
    """A user whom the server lets run no scripts can add and replace."""
    rules = ["+@all", "-@scripting"]
    client.acl_setuser("unscripted", enabled=True, passwords="+s3cret", keys=["*"], categories=rules)
    with RedisEngine(valkey_address.replace("://", "://unscripted:s3cret@")) as engine:
        assert engine.add("key", b"1")
        assert engine.replace("key", b"2", b"1")
    assert client.get("persistkit:key") == b"2"


def test_the_password_may_come_from_the_environment(
    valkey_address: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled engine, which carries no password, takes it from the variable of the command line client."""
    client.acl_setuser("secretive", enabled=True, passwords="+s3cret", keys=["*"], categories=["+@all"])
    with RedisEngine(valkey_address.replace("://", "://secretive@"), password="s3cret") as original:  # noqa: S106
        original.save("key", b"value")
    pickled = pickle.dumps(original)
    assert b"s3cret" not in pickled
    with pickle.loads(pickled) as again:  # noqa: S301 - its own bytes
        with pytest.raises(StorageError, match="REDISCLI_AUTH"):
            again.load("key")
        monkeypatch.setenv("REDISCLI_AUTH", "s3cret")
        assert again.load("key") == b"value"


@pytest.mark.parametrize("address", ["valkey://me:100%2541@{}", "valkey://me@{}?password=100%2541"])
def test_an_address_is_decoded_once(valkey_address: str, client: Redis, address: str) -> None:
    """Wherever the password stands; and what other programs want of redis-py, text for bytes, spoils no value."""
    client.acl_setuser("me", enabled=True, passwords="+100%41", keys=["*"], categories=["+@all"])
    address = address.format(valkey_address.removeprefix("valkey://"))
    with RedisEngine(f"{address}{'&' if '?' in address else '?'}decode_responses=true") as engine:
        engine.save("key", b"\xff")
        assert engine.load("key") == b"\xff"
        assert engine.list_keys() == ["key"]


def test_an_add_whose_answer_was_lost_is_not_sent_again() -> None:
    """After a lost answer ``add`` raises: sent again, it would find its own value and say that another's was there."""
    sent: list[bytes] = []

    def lose(connection: socket.socket) -> None:
        while asked := connection.recv(4096):
            connection.sendall(b"+OK\r\n" * asked.count(b"SETINFO"))
            if b"one" in asked:
                connection.sendall(b"+OK\r\n")
            if b"two" in asked:
                sent.append(asked)
                return

    with servers.scripted(lose) as place, RedisEngine(f"redis://{place}", timeout_seconds=5) as engine:
        assert engine.add("one", b"1")
        with pytest.raises(StorageError, match="add 'two'"):
            engine.add("two", b"2")
        assert len(sent) == 1


def test_the_first_call_after_a_restart_works() -> None:
    """Connections of before are noticed to be closed, however many, and nobody sees an error."""
    with (
        servers.valkey("--appendonly", "yes", "--appendfsync", "always") as server,
        RedisEngine(server.address, timeout_seconds=10) as engine,
    ):
        run_threads(*[partial(engine.save, f"key:{number}", b"value") for number in range(4)])
        for _ in range(2):
            server.kill()
            server.start()
            assert engine.add("key:0", b"other") is False
            assert engine.load("key:3") == b"value"
