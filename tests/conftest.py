"""What every test shares."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import servers
from hypothesis import HealthCheck, settings

import persistkit
from persistkit.engines.files import FileEngine

# On a loaded machine drawing is slow too, and no fault of a test.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", _PATIENT, max_examples=60)
settings.register_profile("long", _PATIENT, max_examples=2_000)  # ten minutes for all of tests
settings.load_profile("short")

# A shell starts what it runs in the background with interrupts ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("persistkit.testing")


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@pytest.fixture
def project() -> Path:
    """The folder of the project."""
    return Path(__file__).parent.parent


@pytest.fixture
def sample() -> persistkit.Store:
    """The directory that the Rust runtime wrote."""
    return persistkit.open(Path(__file__).parent / "data" / "agent-state", read_only=True)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    """One PostgreSQL for the session."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.Server]:
    """One Valkey for the session."""
    with servers.valkey() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3Server]:
    """One SeaweedFS for the session."""
    with servers.s3() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_address(postgresql_server: servers.Server) -> str:
    """The address of PostgreSQL."""
    return postgresql_server.address


@pytest.fixture(scope="session")
def valkey_address(valkey_server: servers.Server) -> str:
    """The address of Valkey."""
    return valkey_server.address


@pytest.fixture
def engine(tmp_path: Path) -> FileEngine:
    """An empty directory, whose files are not synced; contracts have a fixture of their own."""
    return FileEngine(tmp_path, fsync=False)


@pytest.fixture
def store() -> persistkit.Store:
    """An empty store in memory."""
    return persistkit.open("memory:")


@pytest.fixture(params=["files", "sqlite", "postgresql", "valkey", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """An address that several processes can open, and its options; on servers one that nobody has used."""
    if request.param == "files":
        return str(tmp_path / "results"), {"fsync": False}
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db", {}
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_address"), {"table": f"test_{uuid4().hex}"}
    if request.param == "valkey":
        return request.getfixturevalue("valkey_address"), {"namespace": f"{uuid4().hex}:"}
    server: servers.S3Server = request.getfixturevalue("s3_server")
    return f"s3://{server.bucket}/{server.new_prefix()}", dict(server.options)


@pytest.fixture
def store_anywhere(place: tuple[str, dict[str, Any]]) -> Iterator[persistkit.Store]:
    """An empty store in files, in each database and server, and in a bucket."""
    address, options = place
    with persistkit.open(address, create=True, **options) as store:
        yield store
