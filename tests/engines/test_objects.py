"""ObjectEngine: the contract on a real S3 server, and what it promises beyond it."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import obstore
import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from persistkit.engine import Engine
from persistkit.engines.files import FileEngine
from persistkit.engines.objects import ObjectEngine
from persistkit.errors import BatchError, KeyCollisionError, StorageError
from persistkit.keys import filename_for
from persistkit.testing import EngineContract
from persistkit.testing.sharing import run_threads

CONTROL: Final = re.compile(r"[\0-\x1f\x7f]")
MEBIBYTE: Final = 1024 * 1024


class TestS3(EngineContract):
    """ObjectEngine on SeaweedFS, read back by a plain client."""

    @pytest.fixture(autouse=True)
    def _bucket(self, s3_server: servers.S3Server) -> None:
        self.server = s3_server
        self.prefix = s3_server.new_prefix()

    def make_engine(self) -> Engine:
        """Use a prefix of its own."""
        return ObjectEngine(f"s3://{self.server.bucket}/{self.prefix}", timeout_seconds=30, **self.server.options)

    def read_raw(self, engine: Engine, key: str) -> bytes | None:
        """Ask the server for the object of the filename."""
        if engine.load(key) is None:
            return None
        name = filename_for(key)
        escaped = "".join(quote(letter) if letter < " " or letter in "\x7f\ufffe\uffff" else letter for letter in name)
        return bytes(obstore.get(self.server.client(self.prefix), escaped).bytes())


def engine_on(server: servers.S3Server, prefix: str, **options: Any) -> ObjectEngine:
    """Open a prefix of the server's bucket."""
    given: dict[str, Any] = {"timeout_seconds": 20, **server.options, **options}
    return ObjectEngine(f"s3://{server.bucket}/{prefix}", **given)


def test_a_directory_and_a_bucket_hold_the_same_names(s3_server: servers.S3Server, tmp_path: Path) -> None:
    """Every file of a directory, copied as it is named, is a working store in a bucket, and the other way round."""
    reference = json.loads((Path(__file__).parents[1] / "data" / "filenames.json").read_text())
    storable = [key for key in reference if len(key.encode()) <= 1024 and "\0" not in key]
    keys = list(dict.fromkeys([*storable, "<|im_start|>", "a>_", "k" * 1024, "日本語/メモ"]))
    files = FileEngine(tmp_path / "there", create=True, fsync=False)
    with contextlib.suppress(BatchError):
        files.batch_save({key: key.encode() for key in keys})
    # The names the store takes as they are: all but those with control characters.
    unwritable = [path for path in files.base_dir.iterdir() if CONTROL.search(path.name)]
    assert len(unwritable) == 1
    for path in unwritable:
        path.unlink()
    stored = files.list_keys()
    assert len(stored) > 380
    prefix = s3_server.new_prefix()
    client = s3_server.client(prefix)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda path: obstore.put(client, path.name, path.read_bytes()), files.base_dir.iterdir()))
    engine = engine_on(s3_server, prefix)
    assert engine.list_keys() == stored
    assert engine.batch_load(stored) == files.batch_load(stored)
    again = FileEngine(tmp_path / "back", create=True, fsync=False)
    for found in obstore.list(client).collect():
        (again.base_dir / found["path"]).write_bytes(bytes(obstore.get(client, found["path"]).bytes()))
    assert again.list_keys() == stored


def test_control_characters_are_escaped_and_told_apart(s3_server: servers.S3Server) -> None:
    """Keys with control characters, with the text of their escapes, and with both are listed as they were saved."""
    keys = ["line\nfeed", "line%0Afeed", "del\x7f", "percent%41", "100%", "none\uffff", "none\ufffe", "none%EF%BF%BF"]
    keys += ["line\n%0A", "line%0A\n", "%7F\x7f%0a", "none\ufffe%EF%BF%BE"]
    with engine_on(s3_server, s3_server.new_prefix()) as engine:
        engine.batch_save({key: key.encode() for key in keys})
        assert engine.list_keys() == sorted(keys)
        assert {entry.key: entry.filename for entry in engine.entries()} == {key: filename_for(key) for key in keys}
        assert engine.batch_load(keys) == [key.encode() for key in keys]


@given(st.sets(st.text(st.sampled_from("\n\x7f\ufffe\uffff%%%00AFEBa/?>_"), max_size=12), min_size=1, max_size=5))
def test_every_key_that_is_saved_is_listed(keys: set[str]) -> None:
    """Whatever is mixed of control characters and the text of escapes, what was saved is listed and loaded."""
    with ObjectEngine(MemoryStore()) as engine:
        refused: dict[str, Exception] = {}
        try:
            engine.batch_save({key: key.encode() for key in keys})
        except BatchError as error:
            refused = error.failures
        assert all(isinstance(error, KeyCollisionError) for error in refused.values())
        assert engine.list_keys() == sorted(keys - refused.keys())
        assert engine.batch_load(engine.list_keys()) == [key.encode() for key in engine.list_keys()]


def test_an_owner_object_that_names_no_key_spoils_no_listing() -> None:
    """What another program wrote where owner objects are, too long or with NUL, is no key; everything else works."""
    store = MemoryStore()
    with ObjectEngine(store) as engine:
        engine.save("a?>", b"1")
        engine.save("plain", b"2")
        long = "k" * 5000
        obstore.put(store, filename_for(long), b"3")
        obstore.put(store, filename_for(long).replace(".bin", ".key"), long.encode())
        assert [entry.size for entry in engine.entries() if entry.key is None] == [1]
        obstore.delete(store, filename_for(long).replace(".bin", ".key"))
        for content in (b"k" * 5000, b"a\0b", b"\xff", b""):
            (owner,) = [found["path"] for found in obstore.list(store).collect() if found["path"].endswith(".key")]
            obstore.put(store, owner, content)
            assert engine.batch_load(engine.list_keys()) == [b"1", b"2"]


@pytest.mark.parametrize(
    "pair",
    [
        ("a?>", "a>_"),
        (
            ">aaaaaaaaaaaaa<aaaaaaa|aaaaaaaaaaaaa>aaaaaaaaaaa?aaaa:a>aaaa/aaaaaaaaaaaa<aa",
            "\\aaaaaaaaaaaaa:aaaaaaa*aaaaaaaaaaaaa:aaaaaaaaaaa>aaaa\\a*aaaa|aaaaaaaaaaaa\\aa",
        ),
    ],
)
def test_of_two_savers_of_one_name_one_owns_it(s3_server: servers.S3Server, pair: tuple[str, str]) -> None:
    """Two keys of one filename, saved at once: one is stored, the other refused, and neither reads the other's."""
    with engine_on(s3_server, s3_server.new_prefix()) as engine:
        with pytest.raises(KeyCollisionError):
            run_threads(*[lambda key=key: engine.save(key, key.encode()) for key in pair])
        (stored,) = engine.list_keys()
        assert engine.load(stored) == stored.encode()
        (refused,) = set(pair) - {stored}
        assert engine.load(refused) is None
        assert engine.read_range(refused, 0, 5) is None
        assert engine.open_reader(refused) is None
        assert not engine.replace(refused, b"new", stored.encode())
        with pytest.raises(KeyCollisionError, match=re.escape(repr(stored))):
            engine.add(refused, b"new")
        engine.delete(refused)
        assert engine.exists(stored)


def test_a_missing_bucket_is_an_error_not_a_missing_value(s3_server: servers.S3Server) -> None:
    """A bucket that is not there raises, for a load, a listing and a look."""
    with ObjectEngine("s3://nowhere/x", timeout_seconds=20, **s3_server.options) as engine:
        for call in (lambda: engine.load("key"), lambda: engine.exists("key"), lambda: engine.list_keys()):
            with pytest.raises(StorageError, match="s3://nowhere/x"):
                call()


# The options of the HTTP client that "perhaps" is no value of, and those that take any text.
SWITCHES: Final = "allow_http allow_invalid_certificates http1_only http2_keep_alive_while_idle randomize_addresses"
TIMES: Final = "connect_timeout http2_keep_alive_interval http2_keep_alive_timeout pool_idle_timeout timeout"
NUMBERS: Final = {"http2_max_frame_size": "16384", "pool_max_idle_per_host": "4"}
CLIENT_OPTIONS: Final = dict.fromkeys(SWITCHES.split(), "true") | dict.fromkeys(TIMES.split(), "5s") | NUMBERS
TEXT_OPTIONS: Final = {"default_content_type": "text/plain", "proxy_excludes": "127.0.0.1", "user_agent": "test"}


def test_options_of_the_http_client_are_taken(s3_server: servers.S3Server) -> None:
    """Each option of the client works; a wrong value, or an option of nobody, is told when the engine is made."""
    with engine_on(s3_server, "any", **CLIENT_OPTIONS, **TEXT_OPTIONS) as engine:
        assert engine.load("missing") is None
    wrong = dict.fromkeys([*CLIENT_OPTIONS, "nonsense"], "perhaps") | {"user_agent": "line\n", "aws_allow_http": "true"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match="s3://state/any"):
            engine_on(s3_server, "any", **{name: value})


def test_a_proxy_is_asked(s3_server: servers.S3Server) -> None:
    """The requests go to the proxy, and its password is told by no error, repr or pickle."""
    proxy = f"http://me:s3cret@127.0.0.1:{servers.free_port()}"
    with engine_on(s3_server, "any", proxy_url=proxy, timeout_seconds=1) as engine:
        with pytest.raises(StorageError) as caught:
            engine.load("key")
        assert "s3cret" not in str(caught.value) + repr(engine) + repr(pickle.dumps(engine))
    plain = engine_on(s3_server, "any", proxy_url="http://127.0.0.1:1")
    assert b"proxy_url" in pickle.dumps(plain)


@pytest.mark.parametrize("endpoint", ["http://a b", "http://", "http://host:99999"])
def test_a_panic_of_the_client_is_an_error(s3_server: servers.S3Server, endpoint: str) -> None:
    """What makes the client panic, which is no Exception, is a StorageError that names the key."""
    with engine_on(s3_server, "any", endpoint=endpoint) as engine, pytest.raises(StorageError, match="'key'"):
        engine.load("key")


def test_a_value_is_streamed_in_constant_memory(s3_server: servers.S3Server) -> None:
    """Writing and reading 96 MiB in chunks takes less than half of that in memory, and the bytes are the same."""
    script = f"""
import hashlib, resource
from persistkit.engines.objects import ObjectEngine
engine = ObjectEngine("s3://{s3_server.bucket}/{s3_server.new_prefix()}", **{s3_server.options!r})
engine.save("small", b"value")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, written, read = peak(), hashlib.sha256(), hashlib.sha256()
chunk = bytes(range(256)) * 4096
with engine.open_writer("large") as writer:
    for number in range(96):
        writer.write(chunk[number:])
        written.update(chunk[number:])
with engine.open_reader("large") as reader:
    while piece := reader.read(1 << 20):
        read.update(piece)
assert written.digest() == read.digest()
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=100, capture_output=True, text=True)
    assert int(run.stdout) < 48


def test_a_reader_of_a_replaced_object_raises(s3_server: servers.S3Server) -> None:
    """A reader never gives parts of two values."""
    with engine_on(s3_server, s3_server.new_prefix()) as engine:
        engine.save("key", b"old" * MEBIBYTE)
        reader = engine.open_reader("key")
        assert reader is not None
        with reader:
            assert reader.read(3) == b"old"
            engine.save("key", b"new" * MEBIBYTE)
            reader.seek(2 * MEBIBYTE)
            with pytest.raises(StorageError, match="replaced meanwhile"):
                reader.read(MEBIBYTE)
        again = engine.open_reader("key")
        assert again is not None
        assert again.seek(-3, io.SEEK_END) == 3 * MEBIBYTE - 3
        assert again.read() == b"new"


def test_a_fork_after_the_first_request_is_told_to_be_a_spawn(s3_server: servers.S3Server) -> None:
    """A child works if its parent has used no object store yet; later it gets an error, and never hangs."""
    script = f"""
import os
from persistkit.engines.objects import ObjectEngine
from persistkit.errors import StorageError
engine = ObjectEngine("s3://{s3_server.bucket}/{s3_server.new_prefix()}", **{s3_server.options!r})
child = os.fork()
if child == 0:
    engine.save("child", b"1")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert engine.load("child") == b"1"
child = os.fork()
if child == 0:
    try:
        engine.load("child")
    except StorageError as error:
        os._exit(0 if "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitpid(child, 0)[1] == 0
assert engine.load("child") == b"1"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_process_ends_well_while_a_request_goes_on(s3_server: servers.S3Server) -> None:
    """A process is not aborted that ends after its last answer, or while a request goes on and ends too."""
    script = f"""
import os, signal, sys, threading, time
from persistkit.engines.objects import ObjectEngine
class Slow:
    sleep = staticmethod(time.sleep)
    def __del__(self):
        self.sleep(0.3)
ends = []
for number in range(10):
    child = os.fork()
    if child == 0:
        engine = ObjectEngine("s3://{s3_server.bucket}/{s3_server.new_prefix()}", **{s3_server.options!r})
        engine.batch_save({{f"key:{{number}}": b"value" for number in range(20)}})
        if number % 2:
            slow = Slow()
            threading.Thread(target=engine.save, args=("large", bytes(20_000_000)), daemon=True).start()
        sys.exit()
    ends.append(os.waitpid(child, 0)[1])
print([end for end in ends if end])
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_a_process_that_was_interrupted_ends_soon(s3_server: servers.S3Server) -> None:
    """After Ctrl-C nobody waits for the call that hangs: the process ends within a few seconds, not at its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = s3_server.options | {"endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        script = f"""
from persistkit.engines.objects import ObjectEngine
engine = ObjectEngine("s3://state/x", timeout_seconds=60, **{options!r})
print("asking", flush=True)
engine.load("key")
"""
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "asking\n"
            timer = threading.Timer(0.5, process.send_signal, (signal.SIGINT,))
            timer.start()
            assert process.wait(10) == -signal.SIGINT
