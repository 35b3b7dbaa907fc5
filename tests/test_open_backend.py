"""Which address leads to which engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import persistkit
from persistkit.backends import open_backend, shown_address
from persistkit.errors import ReadOnlyError, StorageError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("memory:", "MemoryPersistenceBackend()"),
        ("PostgreSQL://me:s3cret@host:5433/state", "SQLPersistenceBackend('postgresql://me@host:5433/state')"),
        ("valkey://:s3cret@host/2", "RedisPersistenceBackend('valkey://host/2', namespace='persistkit:')"),
        ("redis://host", "RedisPersistenceBackend('redis://host', namespace='persistkit:')"),
        ("s3://bucket/some/prefix", "ObjectPersistenceBackend('s3://bucket/some/prefix')"),
        ("gs://bucket", "ObjectPersistenceBackend('gs://bucket')"),
    ],
)
def test_an_address_opens_its_engine(address: str, shown: str) -> None:
    """Each scheme leads to its backend, before anything is sent, and the password is not shown."""
    if address.startswith("gs://"):
        assert repr(open_backend(address, skip_signature="true")) == shown
    elif address.startswith("s3://"):
        assert repr(open_backend(address, region="us-east-1", secret_access_key="s3cret", access_key_id="k")) == shown  # noqa: S106
    else:
        assert repr(open_backend(address)) == shown


def test_a_store_shows_no_password() -> None:
    """The repr of a store opened by an address does not hold what is secret in the address."""
    assert "s3cret" not in repr(persistkit.open("postgresql://me:s3cret@host/state?password=s3cret"))
    assert repr(persistkit.open("redis://me:s3cret@host:1/0")) == "Store('redis://me@host:1/0')"


def test_a_sqlite_file_opens_as_a_store(tmp_path: Path) -> None:
    """The same store, by another address."""
    with persistkit.open(f"sqlite:///{tmp_path}/state.db", create=True) as store:
        store["run/1"] = {"loss": 0.5}
    with persistkit.open(f"sqlite:///{tmp_path}/state.db", read_only=True) as store:
        assert dict(store) == {"run/1": {"loss": 0.5}}


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path written with a tilde leads home, as in a shell; a directory here that is called so is itself."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    with persistkit.open("~/results", create=True) as store:
        store["run/1"] = 1
    assert list(persistkit.open(home / "results", read_only=True)) == ["run/1"]
    assert list(here.iterdir()) == []
    (here / "~" / "results").mkdir(parents=True)
    assert list(persistkit.open("~/results")) == []


def test_an_unknown_scheme_lists_the_known_and_no_password() -> None:
    """A mistyped scheme is answered with those there are, without the rest of the address."""
    with pytest.raises(StorageError, match=r"sqlite://.*s3://") as caught:
        open_backend("mongodb://me:s3cret@host/state")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "package", "address", "extra"),
    [
        ("sql", "sqlalchemy", "sqlite:///state.db", "sql"),
        ("sql", "aiosqlite", "sqlite:///state.db", "sql"),
        ("sql", "psycopg", "postgresql://host", "sql"),
        ("redis", "redis.asyncio", "redis://host", "redis"),
        ("objects", "obstore", "s3://bucket", "s3"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, address: str, extra: str
) -> None:
    """Without the engine's packages, the error says what to install."""
    for name in (module, "object_requests"):
        monkeypatch.delitem(sys.modules, f"persistkit.backends.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'pip install "persistkit\[{extra}\]"'):
        open_backend(address)


async def test_a_backend_opens_read_only(tmp_path: Path) -> None:
    """Reads pass, and every write is refused, under the public name as for a store."""
    address = f"sqlite:///{tmp_path}/state.db"
    async with persistkit.open_backend(address, create=True) as backend:
        await backend.save("key", b"value")
    async with persistkit.open_backend(address, read_only=True) as backend:
        assert await backend.load("key") == b"value"
        with pytest.raises(ReadOnlyError):
            await backend.save("key", b"new")


def test_an_empty_address_opens_nothing() -> None:
    """A variable that was never filled does not open the present directory."""
    with pytest.raises(ValueError, match="is empty"):
        open_backend("")


@pytest.mark.parametrize("address", ["postgresql://me:s3cret@host:port/state", "redis://me:s3cret@host:port/0"])
def test_a_wrong_port_is_refused_without_the_password(address: str) -> None:
    """What cannot be a port is told when the backend is made, in words of addresses."""
    with pytest.raises(ValueError, match=r"address .*://") as caught:
        open_backend(address)
    assert "s3cret" not in str(caught.value)


def test_credentials_in_the_address_of_a_bucket_are_refused() -> None:
    """Object stores take none from there: they are refused instead of being dropped, and not shown."""
    with pytest.raises(ValueError, match="access_key_id") as caught:
        persistkit.open("s3://AKIA:s3cret@bucket/x", region="us-east-1")
    assert "s3cret" not in str(caught.value)
    assert "AKIA" not in str(caught.value) + shown_address("s3://AKIA:s3cret@bucket/x")
