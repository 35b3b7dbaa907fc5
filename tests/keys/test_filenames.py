"""Filenames: the rule, the keys that share one, and the way back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistkit.keys import (
    KeyCandidates,
    alternatives,
    candidates_of,
    filename_for,
    is_filename,
    is_owner_filename,
    needs_owner_file,
    owner_filename_for,
    place_for,
)

SPECIALS = '/\\:*?"<>|'
PAIRS: dict[str, str] = json.loads((Path(__file__).parents[1] / "data" / "filenames.json").read_text())

any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
special_text = st.text(SPECIALS + "_" * 9 + "ab-.é日🦀\n", max_size=24)
colliding_pieces = st.sampled_from(["?>", ">_", ":|", "<:", "?:_", ">\\>", "?\\>", ">|_", "a", "/", "_"])
colliding_text = st.lists(colliding_pieces).map("".join)
few_kinds_text = st.tuples(st.sampled_from(SPECIALS), st.sampled_from(SPECIALS)).flatmap(
    lambda pair: st.text("".join(pair) + "_abcé", max_size=40)
)
long_text = st.builds(lambda head, unit, times: head + unit * times, any_text, any_text, st.integers(1, 400))
key_text = any_text | special_text | colliding_text | few_kinds_text


def reference_hash(key: str) -> int:
    """Apply djb2 byte by byte."""
    state = 5381
    for byte in key.encode():
        state = (state * 33 + byte) % 2**64
    return state


def reference_filename(key: str) -> str:
    """Apply the rule letter by letter, as the Rust code does."""
    return "".join("_" if letter in SPECIALS else letter for letter in key) + f"-{reference_hash(key):016x}.bin"


def test_importing_loads_no_numpy() -> None:
    """Importing the module, naming a file and asking for owner files does not load numpy."""
    program = (
        "import sys, persistkit.keys as f; f.needs_owner_file(f.filename_for('a?>')); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("key", "number", "filename"),
    [
        ("", 5381, "-0000000000001505.bin"),
        ("a/b", 193484279, "a_b-000000000b8855f7.bin"),
        ("a_b", 193485863, "a_b-000000000b885c27.bin"),
        ("runtime:shutdown", 3579171145586222879, "runtime_shutdown-31abc53192fea71f.bin"),
        ("日本語/メモ", 17258068559879630147, "日本語_メモ-ef80f9eb04f66d43.bin"),
    ],
)
def test_documented_examples_hold(key: str, number: int, filename: str) -> None:
    """The examples of the format's description hash and read as written there."""
    assert filename_for(key).endswith(f"-{number:016x}.bin")
    assert filename_for(key) == filename
    assert candidates_of([filename]) == [KeyCandidates(filename, (key,), complete=True)]


def test_names_are_those_of_the_rust_code() -> None:
    """Every filename is byte for byte the one the Rust runtime gives the key."""
    assert {key: filename_for(key) for key in PAIRS} == PAIRS


@given(key_text | long_text)
def test_filename_follows_the_rule(key: str) -> None:
    """A name below 252 bytes is that of the reference; a longer one keeps the hash and the head of the text."""
    filename, uncut = filename_for(key), reference_filename(key)
    assert is_filename(filename)
    if len(uncut.encode()) < 252:
        assert filename == uncut
    else:
        assert 252 <= len(filename.encode()) <= 255
        assert uncut.startswith(filename[:-21])
        assert uncut.endswith(filename[-21:])


@pytest.mark.parametrize("letter", ["a", "é", "日", "🦀"])
def test_long_names_are_cut_between_characters(letter: str) -> None:
    """Whatever byte the cut would fall on, the name stays valid UTF-8, as long as possible and at most 255 bytes."""
    for shift in range(4):
        for count in range(220 // len(letter.encode()), 300):
            filename = filename_for("x" * shift + letter * count)
            size = len(filename.encode("utf-8", "strict"))
            assert size == min(size, 255)
            if shift + count * len(letter.encode()) > 234:
                assert size > 255 - len(letter.encode())


def test_cut_and_uncut_names_are_never_confused() -> None:
    """A name of 252 bytes or more gives no key, one byte less gives its key."""
    longest = "k/" + "x" * 228
    assert candidates_of([filename_for(longest)])[0].keys == (longest,)
    assert not needs_owner_file(longest)
    for extra in range(1, 30):
        key = longest + "x" * extra
        assert needs_owner_file(key)
        assert candidates_of([filename_for(key)]) == [KeyCandidates(filename_for(key), (), complete=False)]
    uncut = f"{'x' * 234}-{reference_hash('x' * 234):016x}.bin"
    assert [reading.keys for reading in candidates_of([uncut, "x" + uncut])] == [(), ()]


@given(key_text)
def test_alternatives_share_the_filename_and_know_each_other(key: str) -> None:
    """Each alternative is another key with the same filename, and has the key among its own alternatives."""
    others = alternatives(key)
    assert len(others) <= 64
    assert list(others) == sorted(set(others), key=str.encode)
    for other in others:
        assert other != key
        assert filename_for(other) == filename_for(key)
        if len(others) < 64:
            assert sorted([*alternatives(other), other]) == sorted([*others, key])


def test_alternatives_of_a_long_key_share_the_hash_of_the_whole_key() -> None:
    """Where the filename is cut, characters beyond the cut still count."""
    key = "/" * 3 + "x" * 300 + "?>"
    assert alternatives(key) == ("/" * 3 + "x" * 300 + ">_",)
    assert filename_for(alternatives(key)[0]) == filename_for(key)
    assert filename_for("x" * 300 + "az") == filename_for("x" * 300 + "bY")
    assert needs_owner_file("x" * 300 + "az")


def test_alternatives_are_bounded() -> None:
    """A key of 1,024 bytes that 2 ** 512 others share a name with gives the first 64 of them."""
    key = "?>" * 512
    others = alternatives(key)
    assert len(others) == 64
    assert others[0] == ">_" * 512
    assert {filename_for(other) for other in others} == {filename_for(key)}


def test_a_name_of_more_keys_than_are_given_is_incomplete() -> None:
    """Where more than 64 keys share a name, the first 64 are given and the reading says that there are more."""
    (reading,) = candidates_of([filename_for(">_" * 12)])
    assert not reading.complete
    assert len(reading.keys) == 64
    assert {filename_for(key) for key in reading.keys} == {reading.filename}
    assert reading.keys[0] == ">_" * 12


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        ("", False),
        ("session:1/step:2", False),
        ("https://example.com/a_b", False),
        ("a?>", True),
        ("<|im_start|>", True),
        ("snake__case___", False),
        ("_" * 200, False),
        ("a/" * 100, False),
        ('a/b:c*d|e"f/g:h_i*j', False),
        ('a/b:c*d|e"f/g:h_i*j/k', True),
        ("a/b_" * 17, False),
        ("a/b_" * 17 + "/", True),
        ("a:b_" * 13, False),
        ("a:b_" * 13 + ":", True),
        ("a/b*" * 5, True),
        ("a/b:c_d_" * 4 + "x_y:z", False),
        ("a/b:c_d_" * 4 + "x_y:z/", True),
        ("a/b:c?d_" * 4, False),
        ("a/b:c?d_" * 4 + "x_", True),
        ("x" * 230, False),
        ("x" * 231, True),
    ],
)
def test_owner_files_are_needed_where_the_name_is_not_enough(key: str, needed: bool) -> None:
    """An owner file is needed for a shared name, a cut name, and a key that is not found for certain."""
    assert needs_owner_file(key) is needed
    assert place_for(key) == (filename_for(key), needed or sum(map(key.count, SPECIALS + "_")) > 5)
    (candidates,) = candidates_of([filename_for(key)], thorough=False)
    assert needed or candidates == KeyCandidates(filename_for(key), (key,), complete=True)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "\n",
        "a\nb/c\n",
        "\x01\x7f",
        "a_b/",
        "_/_",
        "é_日/🦀",
        "-",
        "x-0123456789abcdef.bin",
        "a/b-000000000b8855f7.bin",
    ],
)
def test_odd_keys_come_back(key: str) -> None:
    """Empty keys, control characters, several bytes a character and keys that look like filenames are keys."""
    assert not needs_owner_file(key)
    assert candidates_of([filename_for(key)]) == [KeyCandidates(filename_for(key), (key,), complete=True)]


FOREIGN = [
    "",
    "notes.txt",
    ".bin",
    "a-0123456789abcde.bin",
    "a-0123456789abcdeF.bin",
    "a_0123456789abcdef.bin",
    "a-0123456789abcdef.bin\n",
    "a-0123456789abcdef.key",
    "a:b-0123456789abcdef.bin",
    "a\0b-0123456789abcdef.bin",
    "\udcff-0123456789abcdef.bin",
    "\ud800-0123456789abcdef.bin",
    os.fsdecode(b"\xff\xfe-0123456789abcdef.bin"),
    "a-\u0660123456789abcdef.bin",
    "x" * 300 + "-0123456789abcdef.bin",
    "日" * 100 + "-0123456789abcdef.bin",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_names_are_no_filenames(name: str) -> None:
    """A name that no key can have is not of our shape, gives no key, and disturbs no other name."""
    assert not is_filename(name)
    honest = filename_for("a/b")
    assert candidates_of([honest, name, honest]) == [
        KeyCandidates(honest, ("a/b",), complete=True),
        KeyCandidates(name, (), complete=False),
        KeyCandidates(honest, ("a/b",), complete=True),
    ]


def test_lone_surrogates_have_no_filename() -> None:
    """Text that is not UTF-8 has no hash and no name."""
    for function in (filename_for, place_for, needs_owner_file, alternatives):
        with pytest.raises(UnicodeEncodeError):
            function("a\ud800")


@given(key_text | long_text)
def test_owner_files_are_named_after_the_file(key: str) -> None:
    """An owner file has the filename with .key at its end, and neither is taken for the other."""
    owner_file = owner_filename_for(filename_for(key))
    assert owner_file == re.sub(r"\.bin\Z", ".key", filename_for(key))
    assert is_owner_filename(owner_file)
    assert not is_filename(owner_file)
    assert not is_owner_filename(filename_for(key))


@given(key_text | long_text)
def test_a_key_that_needs_an_owner_file_may_have_one(key: str) -> None:
    """Whoever looks for owner files only where one may be misses none that is needed."""
    assert place_for(key) == (filename_for(key), place_for(key)[1])
    assert place_for(key)[1] or not needs_owner_file(key)
