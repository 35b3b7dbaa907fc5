"""Check: every problem is named, and a repair removes what is certainly dead, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from persistkit.engines.files import FileEngine
from persistkit.keys import filename_for, owner_filename_for

LONG = "k" * 400
HOUR_AGO = time.time() - 3700


def owner_file(engine: FileEngine, key: str) -> Path:
    """Return the path of the owner file of ``key``."""
    return engine.base_dir / owner_filename_for(filename_for(key))


def test_check_names_every_problem_and_repairs_only_the_dead(engine: FileEngine) -> None:
    """Each problem is found once; repair removes old temporary files and old owner files without value."""
    base = engine.base_dir
    engine.batch_save({"a?>": b"1", "good": b"2", LONG: b"3", ":|": b"4"})
    engine.delete("a?>")
    assert engine.add("added", b"5")
    (base / ".persistkit-0123456789abcdef0123456789abcdef.tmp").write_bytes(b"temp")
    (base / "key-0000000000000001.tmp-0123456789abcdef0123456789abcdef").write_bytes(b"temp")
    (base / ".persistkit-1123456789abcdef0123456789abcdef.tmp").write_bytes(b"young")
    owner_file(engine, "<|").write_bytes(b"<")
    owner_file(engine, "?\\>").write_bytes(b"another")
    (base / "notes.txt").write_text("mine")
    (base / "_a_b_c_d_e_f_g_h_i_j-0123456789abcdef.bin").write_bytes(b"whose?")
    engine.path_for("?:_").write_bytes(b"ambiguous")
    engine.path_for("directory").mkdir()
    for path in base.iterdir():
        if not path.name.startswith(".persistkit-1"):
            os.utime(path, (HOUR_AGO, HOUR_AGO))
    values = {path.name: path.read_bytes() for path in base.glob("*.bin") if path.is_file()}
    found = {(finding.filename, finding.problem): finding for finding in engine.check()}
    assert sorted(problem for _, problem in found) == [
        "ambiguous",
        "not a regular file",
        "other program's file",
        "owner file that does not hash to its filename",
        "owner file without value",
        "temp left behind",
        "temp left behind",
        "temp left behind",
        "torn owner file",
        "unsolved",
    ]
    assert not any(finding.repaired for finding in found.values())
    repaired = {finding.filename for finding in engine.check(repair=True) if finding.repaired}
    assert repaired == {
        ".persistkit-0123456789abcdef0123456789abcdef.tmp",
        "key-0000000000000001.tmp-0123456789abcdef0123456789abcdef",
        owner_file(engine, "a?>").name,
        owner_file(engine, "<|").name,
    }
    assert {path.name: path.read_bytes() for path in base.glob("*.bin") if path.is_file()} == values
    assert all(not (base / name).exists() for name in repaired)
    assert (base / ".persistkit-locks").exists()
    assert engine.list_keys() == sorted([":|", LONG, ">\\>", "added", "good"])


def test_repair_leaves_what_is_only_named_like_a_temporary_file(engine: FileEngine) -> None:
    """An old directory, link or pipe with a temporary file's name is found and stays; the repair goes on."""
    names = [f".persistkit-{number:032x}.tmp" for number in range(4)]
    (engine.base_dir / names[0]).mkdir()
    (engine.base_dir / names[0] / "inside").write_bytes(b"kept")
    (engine.base_dir / names[1]).symlink_to("/etc/hostname")
    os.mkfifo(engine.base_dir / names[2])
    (engine.base_dir / names[3]).write_bytes(b"temp")
    for name in names:
        os.utime(engine.base_dir / name, (HOUR_AGO, HOUR_AGO), follow_symlinks=False)
    findings = engine.check(repair=True)
    assert [finding.problem for finding in findings] == ["not a regular file"] * 3 + ["temp left behind"]
    assert [finding.repaired for finding in findings] == [False, False, False, True]
    assert sorted(os.listdir(engine.base_dir)) == names[:3]
    assert (engine.base_dir / names[0] / "inside").read_bytes() == b"kept"


@pytest.mark.parametrize("hours", [-2, 2, 90_000])
def test_a_clock_that_jumps_leaves_nothing_for_ever(engine: FileEngine, hours: int) -> None:
    """What was written two hours ago, or will be in two hours after the clock was set back, is old; now is young."""
    engine.save("a?>", b"1")
    engine.delete("a?>")
    owner_file(engine, "<|").write_bytes(b"")
    (engine.base_dir / f".persistkit-{0:032x}.tmp").write_bytes(b"temp")
    for seconds, is_old in ((0, False), (60, False), (hours * 3600, True)):
        for path in [*engine.base_dir.iterdir(), engine.base_dir]:
            os.utime(path, (time.time() + seconds,) * 2)
        assert not seconds or engine.change_token() == engine.change_token()
        assert [finding.repaired for finding in engine.check(repair=True)] == [is_old] * 3
    assert os.listdir(engine.base_dir) == []


AS_ANOTHER_USER = """
import sys
from persistkit.engines.files import FileEngine
from persistkit.errors import StorageError
engine = FileEngine(sys.argv[1], fsync=False)
assert engine.load("open") == b"1" and not engine.exists("missing")
for operation in (lambda: engine.load("closed"), lambda: engine.save("new", b""), lambda: engine.delete("open"),
                  lambda: engine.add("new", b""), lambda: engine.replace("open", b"2", b"1"),
                  lambda: engine.check(repair=True)):
    try:
        operation()
    except StorageError as error:
        assert "Permission denied" in str(error), error
    else:
        raise SystemExit("no error")
print([(finding.filename, finding.problem) for finding in engine.check() if finding.problem == "unreadable"])
"""


@pytest.mark.skipif(not shutil.which("setpriv") or os.getuid() != 0, reason="needs root and setpriv")
def test_another_user_reads_what_may_be_read_and_hears_what_may_not(project: Path) -> None:
    """Who may only read gets errors with their reason from everything else; nothing is changed."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        base.chmod(0o755)
        engine = FileEngine(base, fsync=False)
        engine.batch_save({"open": b"1", "closed": b"2"})
        engine.path_for("closed").chmod(0o600)
        temp = base / f".persistkit-{0:032x}.tmp"
        temp.write_bytes(b"")
        os.utime(temp, (HOUR_AGO, HOUR_AGO))
        before = {path: path.stat().st_mtime_ns for path in base.iterdir()}
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*user, sys.executable, "-c", AS_ANOTHER_USER, folder]
        run = subprocess.run(command, capture_output=True, text=True, cwd=project)
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == str([(filename_for("closed"), "unreadable")])
        assert {path: path.stat().st_mtime_ns for path in base.iterdir()} == before
