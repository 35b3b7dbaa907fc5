"""Filenames: the rule, the keys that share one, and the way back."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import persistkit.keys.filenames
from persistkit.keys.filenames import (
    KeyCandidates,
    alternatives,
    candidates_of,
    djb2,
    filename_for,
    is_filename,
    is_owner_filename,
    needs_owner_file,
    owner_filename_for,
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


def reference_filename(key: str) -> str:
    """Apply the rule letter by letter, as the Rust code does."""
    state = 5381
    for byte in key.encode():
        state = (state * 33 + byte) % 2**64
    return "".join("_" if letter in SPECIALS else letter for letter in key) + f"-{state:016x}.bin"


def hostile_names(count: int, unknowns: tuple[int, ...], seed: int) -> list[str]:
    """Return names with the given numbers of underscores, each at places of its own, and a random hash."""
    generator = random.Random(seed)
    names: dict[str, str] = {}
    while len(names) < count:
        length = generator.randrange(max(unknowns) + 8, 230)
        text = ["a"] * length
        for place in generator.sample(range(length), unknowns[len(names) % len(unknowns)]):
            text[place] = "_"
        names["".join(text)] = f"{''.join(text)}-{generator.getrandbits(64):016x}.bin"
    return list(names.values())


def honest_keys(count: int, seed: int) -> list[str]:
    """Return keys of many shapes that need no claim, some of them as hard as such keys get."""
    generator = random.Random(seed)
    keys: dict[str, None] = {}
    while len(keys) < count:
        kinds, unknowns = generator.choice([(9, 9), (2, 12), (1, 22), (9, 4), (1, 9)])
        letters = "".join(generator.sample(SPECIALS, kinds)) + "_"
        words = ["".join(generator.choices("abcdefgh", k=generator.randrange(1, 6))) for _ in range(unknowns + 1)]
        key = "".join(word + generator.choice(letters) for word in words[:-1]) + words[-1]
        if not needs_owner_file(key):
            keys[key] = None
    return list(keys)


def test_all_is_the_truth() -> None:
    """The public names are those in the sorted __all__, and no others."""
    names = persistkit.keys.filenames.__all__
    assert names == sorted(names)
    public = {
        name
        for name, value in vars(persistkit.keys.filenames).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "persistkit.keys.filenames") == "persistkit.keys.filenames"
    }
    assert {name for name in public if name not in {"annotations", "re", "TYPE_CHECKING"}} == set(names)


def test_importing_loads_no_numpy() -> None:
    """Importing the module, naming a file and asking for claims does not load numpy."""
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
    assert djb2(key) == number
    assert filename_for(key) == filename
    assert candidates_of([filename]) == [KeyCandidates(filename, (key,), complete=True)]


def test_names_are_those_of_the_rust_code() -> None:
    """Every filename is byte for byte the one the Rust runtime gives the key."""
    assert {key: filename_for(key) for key in PAIRS} == PAIRS


def test_names_of_the_rust_code_give_their_keys_back() -> None:
    """Of the names written by the Rust code at least 232 give their key, the others come back unsolved, none wrong."""
    readings = dict(zip(PAIRS, candidates_of(PAIRS.values()), strict=True))
    assert len(readings) == 397
    assert sum(key in reading.keys for key, reading in readings.items()) >= 232
    assert all(reading.complete or reading.keys == () for reading in readings.values())
    assert all(key in reading.keys for key, reading in readings.items() if reading.complete)


@given(any_text | long_text)
def test_hash_is_djb2(key: str) -> None:
    """The hash is djb2 in 64 bits, whatever the length of the key."""
    state = 5381
    for byte in key.encode():
        state = (state * 33 + byte) % 2**64
    assert djb2(key) == state


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
    uncut = f"{'x' * 234}-{djb2('x' * 234):016x}.bin"
    assert [reading.keys for reading in candidates_of([uncut, "x" + uncut])] == [(), ()]


@pytest.mark.parametrize(("length", "groups"), [(2, 3), (3, 59), (4, 852)])
def test_alternatives_agree_with_brute_force(length: int, groups: int) -> None:
    """Over all strings of the ten characters, the alternatives are exactly the others with the same filename."""
    sharing = defaultdict(list)
    for letters in itertools.product(SPECIALS + "_", repeat=length):
        sharing[reference_filename("".join(letters))].append("".join(letters))
    assert sum(len(keys) > 1 for keys in sharing.values()) == groups
    for keys in sharing.values():
        for key in keys:
            assert alternatives(key) == tuple(sorted(set(keys) - {key}))
            assert needs_owner_file(key) == (len(keys) > 1)


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
        ("a/b_" * 11, False),
        ("a/b_" * 11 + "/", True),
        ("a/b*" * 6, False),
        ("a/b*" * 6 + "_", True),
        ("a/b:" * 8, False),
        ("a/b:" * 8 + "/", True),
        ("a/b:c?d_" * 3, False),
        ("a/b:c?d_" * 3 + "x/y:z?", True),
        ("a/b:c*d|" * 2 + "_", False),
        ("a/b:c*d|" * 2 + "_e_", True),
        ("x" * 230, False),
        ("x" * 231, True),
    ],
)
def test_claims_are_needed_where_the_name_is_not_enough(key: str, needed: bool) -> None:
    """A claim is needed for a shared name, a cut name, and a key too hard to be found for certain."""
    assert needs_owner_file(key) is needed
    (reading,) = candidates_of([filename_for(key)])
    assert needed or reading == KeyCandidates(filename_for(key), (key,), complete=True)


@given(st.lists(key_text | long_text, max_size=12))
def test_names_give_their_keys_or_say_that_they_do_not(keys: list[str]) -> None:
    """A complete reading holds the key and its alternatives and nothing else; an unclaimed key is read completely."""
    readings = candidates_of(map(filename_for, keys))
    assert [reading.filename for reading in readings] == [filename_for(key) for key in keys]
    for key, reading in zip(keys, readings, strict=True):
        if reading.complete:
            assert reading.keys == tuple(sorted([key, *alternatives(key)], key=str.encode))
        else:
            assert needs_owner_file(key)
            assert reading.keys == () or len(alternatives(key)) == 64


@settings(max_examples=settings().max_examples // 3)  # each takes a tenth of a second
@given(st.lists(key_text.filter(lambda key: not needs_owner_file(key)), min_size=1), st.randoms(use_true_random=False))
def test_unclaimed_keys_are_found_in_any_company(keys: list[str], generator: random.Random) -> None:
    """Hopeless and hard names in the same listing take nothing from keys that need no claim, in any order."""
    company = [*hostile_names(24, (3, 8, 9, 10, 13, 22), generator.randrange(100)), "foreign.bin", "", "\udcff"]
    listing: list[tuple[str, str | None]] = [(filename_for(key), key) for key in keys]
    listing += [(name, None) for name in company]
    generator.shuffle(listing)
    for (name, key), reading in zip(listing, candidates_of(name for name, _ in listing), strict=True):
        assert reading == KeyCandidates(name, () if key is None else (key,), complete=key is not None)


def test_keys_of_one_template_are_found() -> None:
    """Many keys of a few templates all come back, over several blocks of names."""
    keys = [f"session:{number}/step:{number % 97}" for number in range(40_000)]
    keys += [f"loop:{number}_é:step:{number}" for number in range(30_000)]
    assert [reading.keys for reading in candidates_of(map(filename_for, keys))] == [(key,) for key in keys]


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


@given(st.text(st.characters(), max_size=30), st.sampled_from(["", "-0123456789abcdef.bin", "-0000000000001505.bin"]))
def test_no_name_crashes(head: str, tail: str) -> None:
    """Any text at all, lone surrogates included, is read; without a matching hash it has no key."""
    (reading,) = candidates_of([head + tail])
    assert reading.filename == head + tail
    assert all(filename_for(key) == head + tail for key in reading.keys)
    if reading.keys:
        assert is_filename(head + tail)


def test_nothing_gives_nothing() -> None:
    """No names give no readings."""
    assert candidates_of([]) == []


def test_lone_surrogates_have_no_filename() -> None:
    """Text that is not UTF-8 has no hash and no name."""
    for function in (djb2, filename_for, needs_owner_file, alternatives):
        with pytest.raises(UnicodeEncodeError):
            function("a\ud800")


@given(key_text | long_text)
def test_companions_are_named_after_the_file(key: str) -> None:
    """A companion has the filename with .key at its end, and neither is taken for the other."""
    claim = owner_filename_for(filename_for(key))
    assert claim == re.sub(r"\.bin\Z", ".key", filename_for(key))
    assert is_owner_filename(claim)
    assert not is_filename(claim)
    assert not is_owner_filename(filename_for(key))


def test_hostile_directory_is_bounded_and_hides_no_key() -> None:
    """500 hopeless names cost at most 30 s and 500 MB, and the 1,000 honest ones among them all come out right."""
    program = dedent("""
        import random, time
        from test_filenames import hostile_names, honest_keys
        from persistkit.keys.filenames import KeyCandidates, filename_for, candidates_of

        hostile = hostile_names(500, (8, 12, 20, 100), 1)
        expected = [KeyCandidates(name, (), False) for name in hostile]
        expected += [KeyCandidates(filename_for(key), (key,), True) for key in honest_keys(1_000, 2)]
        random.Random(3).shuffle(expected)
        before = time.process_time()
        assert candidates_of(reading.filename for reading in expected) == expected
        # Not ru_maxrss: a child inherits its parent's.
        peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(time.process_time() - before, peak)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    seconds, kibibytes = map(float, done.stdout.split())
    assert seconds < 30
    assert kibibytes < 500 * 1024
