"""Key to filename and back: the reference's pairs, collisions by brute force, and what a listing may claim to know."""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from persistkit.filenames import (
    Reading,
    alternatives,
    claim_name_for,
    djb2,
    filename_for,
    is_filename,
    keys_for,
    needs_claim,
)

PAIRS: dict[str, str] = json.loads((Path(__file__).parent / "data" / "filenames.json").read_text(encoding="utf-8"))
TEN = '_/\\:*?"<>|'

any_key = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300).filter(
    lambda key: len(key.encode()) <= 1024
)
hard_key = st.text(TEN + "ab", max_size=40)


def plain_djb2(key: str) -> int:
    """Hash as the reference's loop does, one byte after the other."""
    state = 5381
    for byte in key.encode():
        state = (state * 33 + byte) % 2**64
    return state


def test_all_pairs_of_the_reference_hold() -> None:
    """Each of the 397 filenames the Rust code made is made here from its key."""
    assert len(PAIRS) == 397
    assert {key: filename_for(key) for key in PAIRS} == PAIRS


def test_pairs_of_the_reference_read_back() -> None:
    """At least 232 of the 397 filenames give their key back; the rest say that they do not; none is wrong."""
    readings = keys_for(PAIRS.values())
    right = [key in reading.keys for key, reading in zip(PAIRS, readings, strict=True)]
    assert sum(right) >= 232
    assert all(found or not reading.complete for found, reading in zip(right, readings, strict=True))
    assert all(not reading.keys for found, reading in zip(right, readings, strict=True) if not found)


@pytest.mark.parametrize(("length", "groups"), [(2, 3), (3, 59), (4, 852)])
def test_alternatives_agree_with_brute_force(length: int, groups: int) -> None:
    """For all texts over the ten characters, the alternatives are exactly the texts of equal hash."""
    same: dict[int, list[str]] = {}
    for characters in itertools.product(TEN, repeat=length):
        key = "".join(characters)
        same.setdefault(plain_djb2(key), []).append(key)
    assert sum(len(keys) > 1 for keys in same.values()) == groups
    for keys in same.values():
        for key in keys:
            assert alternatives(key) == tuple(sorted(set(keys) - {key}))


def test_known_collisions() -> None:
    """The collisions met in the field are found, also inside longer keys."""
    assert alternatives("a?>") == ("a>_",)
    assert alternatives(":|") == ("<:",)
    assert alternatives("<|im_start|>") == (">:im_start|>",)
    assert "?:_" in alternatives(">\\>")
    assert alternatives("session:1/step:2") == ()


def test_alternatives_of_a_long_run_are_bounded() -> None:
    """A key with astronomically many alternatives gives the first 64, quickly."""
    others = alternatives("?>" * 400)
    assert len(others) == 64
    assert list(others) == sorted(others)
    assert {djb2(other) for other in others[:20]} == {djb2("?>" * 400)}


@given(any_key)
def test_filename_law(key: str) -> None:
    """A filename is the sanitized key, cut on a character's border when too long, and the hash: 255 bytes at most."""
    name = filename_for(key)
    sanitized = "".join("_" if character in TEN else character for character in key)
    assert name.endswith(f"-{plain_djb2(key):016x}.bin")
    assert len(name.encode()) <= 255
    head = name[: -len("-0123456789abcdef.bin")]
    if len(sanitized.encode()) + 21 <= 251:
        assert head == sanitized
    else:
        assert sanitized.startswith(head)
        assert len(head.encode()) > 230
    assert is_filename(name)
    assert djb2(key) == plain_djb2(key)


@given(st.lists(any_key | hard_key, max_size=8))
@example(["?:_"])
@example(["<|im_start|>", ">:im_start|>"])
@example(["?>" * 30])
def test_a_reading_never_names_another_key_alone(keys: list[str]) -> None:
    """A reading holds the key, or says it is incomplete; a key that needs no claim is read exactly."""
    for key, reading in zip(keys, keys_for([filename_for(key) for key in keys]), strict=True):
        if not needs_claim(key):
            assert reading == Reading(filename_for(key), (key,), complete=True)
        elif reading.keys:
            assert key in reading.keys or not reading.complete
            assert all(filename_for(other) == reading.filename for other in reading.keys)
        else:
            assert not reading.complete


@given(hard_key)
def test_whoever_collides_needs_a_claim(key: str) -> None:
    """All keys of one filename need a claim, and each has the others as alternatives."""
    for other in alternatives(key)[:20]:
        assert needs_claim(key)
        assert needs_claim(other)
        assert key in alternatives(other) or len(alternatives(key)) == 64


@pytest.mark.parametrize("special", list('/\\:*?"<>|'))
def test_kinds_of_keys_that_need_no_claim(special: str) -> None:
    """One special alone, or with up to 24 places, and two specials with up to 12 are read back without a claim."""
    other = "/" if special != "/" else ":"
    keys = [
        special.join("x" * 60),
        f"{special}a_b".join("y" * 12)[:45],
        f"a{special}b{other}c_d".join("z" * 5),
        f"a{special}b{other}c_d{special}e".join("z" * 3),
    ]
    assert not any(map(needs_claim, keys))
    assert [reading.keys for reading in keys_for(map(filename_for, keys))] == [(key,) for key in keys]


def test_file_paths_read_back() -> None:
    """Real file paths of this interpreter are read back, all right."""
    paths = [str(path) for path in itertools.islice(Path(sys.prefix).rglob("*"), 5000)]
    for path, reading in zip(paths, keys_for(map(filename_for, paths)), strict=True):
        assert path in reading.keys or (needs_claim(path) and not reading.complete)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.txt",
        "x.bin",
        "a_b-000000000b8855f7.bin.tmp",
        "a:b-000000000b8855f7.bin",
        "a-00000000000ABCDE.bin",
        "\udcff-000000000b8855f7.bin",
        "a\0-000000000b8855f7.bin",
        "é" * 300,
    ],
)
def test_foreign_names_are_not_read(name: str) -> None:
    """A name that no key could have is nobody's, and stops nothing."""
    assert not is_filename(name)
    assert keys_for([name, filename_for("a/b")]) == [
        Reading(name, (), complete=False),
        Reading(filename_for("a/b"), ("a/b",), complete=True),
    ]


def test_claims_stand_beside_their_values() -> None:
    """A companion has the name of the value's file, with another ending."""
    assert claim_name_for(filename_for("a/b")) == "a_b-000000000b8855f7.key"


HOSTILE = """
import random, sys, json
from persistkit.filenames import filename_for, keys_for
dice = random.Random(7)
honest = [f"session:{n}/step_{n % 7}:x" for n in range(500)] + [f"/usr/lib/a_{n}/b_c/{n}.py" for n in range(500)]
hostile = []
for index in range(10_000):
    text = bytearray(b"abcdefghij" * 20)
    for place in dice.sample(range(200), (8, 12, 20, 100)[index % 4]):
        text[place] = ord("_")
    hostile.append(f"{text.decode()}-{dice.getrandbits(64):016x}.bin")
names = [filename_for(key) for key in honest] + hostile
dice.shuffle(names)
read = {reading.filename: reading for reading in keys_for(names)}
assert all(read[filename_for(key)].keys == (key,) for key in honest)
some = sorted(names)[::20]
again = {reading.filename: reading for reading in keys_for(some)}
assert again == {reading.filename: reading for reading in keys_for(some[::-1])}
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_hostile_directory_is_bounded() -> None:
    """10,000 names that nothing fits are given up on, the same way in any order, and their neighbours come out."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run = subprocess.run([sys.executable, "-c", HOSTILE], check=True, capture_output=True, text=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert spent < 10 + 2
    assert int(run.stdout) < 500_000


def test_order_of_the_names_does_not_matter() -> None:
    """A shuffled listing reads as the sorted one."""
    names = [filename_for(key) for key in PAIRS]
    shuffled = names.copy()
    random.Random(3).shuffle(shuffled)
    assert sorted(keys_for(shuffled), key=lambda reading: reading.filename) == sorted(
        keys_for(names), key=lambda reading: reading.filename
    )


def test_names_of_many_keys_are_bounded() -> None:
    """A name that astronomically many keys share reads as the first 64 of them, and says that there are more."""
    (reading,) = keys_for([filename_for(">_" * 12)])
    assert len(reading.keys) == 64
    assert not reading.complete
    assert all(filename_for(key) == reading.filename for key in reading.keys)
