"""Candidates: the keys that filenames give back, by lattice, by few kinds of characters and by likely guesses."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistkit.keys import (
    KeyCandidates,
    alternatives,
    candidates_as_found,
    candidates_of,
    filename_for,
    is_filename,
    needs_owner_file,
)

TEN = '_/\\:*?"<>|'
PAIRS: dict[str, str] = json.loads((Path(__file__).parents[1] / "data" / "filenames.json").read_text())

# Two keys each with one filename, whose hashes agree modulo 2 ** 64 only: sums of nine, nine and ten characters.
NINE = [5, 12, 34, 43, 57, 61, 65, 71, 77], '">:\\":\\>|', '_/"*/|*_:'
NINE_MORE = [2, 15, 20, 22, 27, 39, 53, 61, 75], "</>:?>|<>", "\\|*\\>:*:\\"
SHARED = (
    "index<epoch_agent\\run*fold/query*tool*step|epoch<shard_data",
    'index"epoch|agent/run|fold*query|tool\\step/epoch_shard"data',
)


def key_with(exponents: Sequence[int], characters: str, filler: str = "a") -> str:
    """Return a key with the characters at the places that have so many bytes after them."""
    text = [filler] * (max(exponents) // len(filler.encode()) + 1)
    for exponent, character in zip(exponents, characters, strict=True):
        text[-1 - exponent] = character
    return "".join(text)


def planted(places: int, dice: random.Random, *, adjacent: bool = False) -> str:
    """Return a key with any of the ten characters at so many places between words of one to four bytes a letter."""
    words = ["".join(dice.choices("aé日🦀-.", k=dice.randint(0 if adjacent else 1, 6))) for _ in range(places + 1)]
    return words[0] + "".join(dice.choice(TEN) + word for word in words[1:])


def hopeless(count: int, places: Iterable[int], seed: int) -> list[str]:
    """Return names with so many underscores, each at places of its own, and a random hash."""
    dice, choices = random.Random(seed), list(places)
    names = []
    for number in range(count):
        length = dice.randrange(max(choices) + 8, 230)
        text = ["a"] * length
        for place in dice.sample(range(length), choices[number % len(choices)]):
            text[place] = "_"
        names.append(f"{''.join(text)}-{dice.getrandbits(64):016x}.bin")
    return names


def exempt_keys(count: int, seed: int) -> list[str]:
    """Return keys of many shapes that need no owner file, some of them as hard as such keys get."""
    dice, keys = random.Random(seed), dict[str, None]()
    while len(keys) < count:
        kinds, places = dice.choice([(9, 9), (1, 26), (9, 4), (1, 9)])
        letters = "".join(dice.sample(TEN[1:], kinds)) + "_"
        words = ["".join(dice.choices("abcdefgh", k=dice.randrange(1, 6))) for _ in range(places + 1)]
        key = "".join(word + dice.choice(letters) for word in words[:-1]) + words[-1]
        if not needs_owner_file(key):
            keys[key] = None
    return list(keys)


def assert_read(keys: Sequence[str]) -> None:
    """Check that the names of the keys, listed together, give exactly the keys and their alternatives."""
    for key, candidates in zip(keys, candidates_of(map(filename_for, keys)), strict=True):
        every = tuple(sorted([key, *alternatives(key)], key=str.encode))
        assert candidates == KeyCandidates(filename_for(key), every[:64], complete=len(every) < 65)


@pytest.mark.parametrize(
    ("exponents", "groups"),
    [((0,), 0), ((3, 0), 0), ((1, 0), 3), ((64, 32, 0), 0), ((2, 1, 0), 59), ((9, 8, 1, 0), None), ((3, 2, 1, 0), 852)],
)
def test_up_to_four_places_agree_with_brute_force(exponents: tuple[int, ...], groups: int | None) -> None:
    """Over all texts of the ten characters at up to four places, a name gives exactly the texts that have it."""
    sharing = defaultdict(list)
    for characters in itertools.product(sorted(TEN), repeat=len(exponents)):
        key = key_with(exponents, "".join(characters))
        sharing[filename_for(key)].append(key)
    assert groups in (None, sum(len(keys) > 1 for keys in sharing.values()))
    expected = [KeyCandidates(name, tuple(keys), complete=True) for name, keys in sharing.items()]
    assert candidates_of(sharing) == expected
    for keys in sharing.values():
        for key in keys:
            assert alternatives(key) == tuple(other for other in keys if other != key)
            assert needs_owner_file(key) == (len(keys) > 1)


@settings(deadline=None)
@given(st.integers(5, 9), st.booleans(), st.randoms(use_true_random=False))
def test_up_to_nine_places_are_read_whatever_the_pattern(places: int, adjacent: bool, dice: random.Random) -> None:
    """A key of any ten characters at up to nine places, between text of several bytes a letter, is read."""
    assert_read([planted(places, dice, adjacent=adjacent) for _ in range(4)])


@settings(deadline=None, max_examples=settings().max_examples // 5)
@given(st.integers(10, 11), st.booleans(), st.randoms(use_true_random=False))
def test_ten_and_eleven_places_are_read_whatever_the_pattern(places: int, adjacent: bool, dice: random.Random) -> None:
    """A key of any ten characters at ten or eleven places is read."""
    assert_read([planted(places, dice, adjacent=adjacent)])


@pytest.mark.parametrize(
    "exponents",
    [
        range(9),
        range(100, 111),
        range(0, 224, 32),
        [0, 1, 32, 33, 64, 65, 96, 97, 128],
        [*range(0, 224, 32), *range(1, 128, 32)],
        [0, 64, 128, 192, 1, 65, 129, 193, 2],
        [0, 128, 1, 129, 2, 130, 3, 131, 4, 132, 5],
        [0, 2, 4, 6, 8, 10, 12, 14, 16],
        [0, 5, 11, 17, 22, 28, 33, 39, 44, 50, 55],
    ],
)
def test_places_in_regular_steps_are_read(exponents: Sequence[int]) -> None:
    """Neighbouring places, and steps in which powers of 33 are alike modulo powers of two, hide no solution."""
    dice = random.Random(len(exponents))
    assert_read([key_with(exponents, "".join(dice.choices(TEN, k=len(exponents)))) for _ in range(20)])


@pytest.mark.parametrize(
    "pair",
    [
        SHARED,
        (key_with(*NINE[:2]), key_with(NINE[0], NINE[2])),
        (key_with(*NINE_MORE[:2]), key_with(NINE_MORE[0], NINE_MORE[2])),
    ],
)
def test_keys_that_agree_modulo_2_to_the_64_are_both_found(pair: tuple[str, str]) -> None:
    """Keys that share a filename because their sums differ by a multiple of 2 ** 64 know each other."""
    first, second = sorted(pair, key=str.encode)
    assert filename_for(first) == filename_for(second)
    assert (alternatives(first), alternatives(second)) == ((second,), (first,))
    assert candidates_of([filename_for(first)]) == [KeyCandidates(filename_for(first), (first, second), complete=True)]
    assert needs_owner_file(first)
    assert needs_owner_file(second)


def test_a_name_is_read_alike_alone_and_among_hopeless_names() -> None:
    """What surrounds a name of up to eleven places takes nothing from it."""
    dice = random.Random(4)
    keys = [planted(places, dice) for places in (9, 10, 11, 11)] + exempt_keys(30, 5)
    alone = [candidates_of([filename_for(key)])[0] for key in keys]
    assert all(key in candidates.keys and candidates.complete for key, candidates in zip(keys, alone, strict=True))
    company = [*hopeless(40, (3, 8, 9, 10, 11), 6), "foreign.bin", "", "\udcff"]
    listing = [filename_for(key) for key in keys] + company
    together = {candidates.filename: candidates for candidates in candidates_of(dice.sample(listing, len(listing)))}
    assert [together[candidates.filename] for candidates in alone] == alone
    assert all(together[name] == KeyCandidates(name, (), complete=False) for name in company)


FAMILIES = {
    "chat": "<|start_header_id|>{0}<|end_header_id|>{1} {2}<|eot_id|>",
    "URL": "http://{0}.{1}.com:8443/{2}/{3}_{0}?{1}_{2}=https://{3}.org/{0}",
    "JSON": '{{"{0}_{1}": "{2}", "{3}": "{0}", "{1}": 12}}',
    "HTML": '<a href="/{0}_{1}" class="/{2}">{3} {0}</a>',
    "path": "{0}_{1}/{2}_{3}:{0}_{2}/{1}_{3}_{0}?{2}_{1}/{3}:{2}_{0}/{1}",
    "glob": "{0}/**/{1}_{2}_*/{3}_??/part_*.{0}_*",
    "cron": "*/5 {0}/* * */2 /usr/bin/{1}_{2} /etc/{3}.conf > /var/log/{0}_{1}",
    "Windows": "C:\\Users\\{0}_{1}\\{2}_{3}_{0}\\{1}_{2}\\{3}_{1}\\{0}_{2}_{3}.txt",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_of_many_places_are_read_where_they_are_likely(family: str) -> None:
    """Keys as programs write them, of twelve to seventeen places, are read, or are among the keys of a shared name."""
    words = ["agent", "batch", "cache", "data", "event", "file", "group", "host", "index", "job"]
    dice = random.Random(1)
    keys = list({FAMILIES[family].format(*dice.sample(words, 4)): None for _ in range(40)})
    for key, candidates in zip(keys, candidates_of(map(filename_for, keys)), strict=True):
        assert key in candidates.keys
        assert set(candidates.keys) == {key, *alternatives(key)}


def test_twelve_places_are_read_to_the_end() -> None:
    """Twelve places of any characters are read, all texts having been tried."""
    key = key_with(range(0, 72, 6), '"_*/\\<|>?:_*')
    assert candidates_of([filename_for(key)]) == [KeyCandidates(filename_for(key), (key,), complete=True)]


def test_what_is_not_found_says_so() -> None:
    """A name of very many unlikely characters gives nothing or the key, and never another one."""
    dice = random.Random(2)
    keys = [planted(places, dice) for places in (14, 20, 40, 60)]
    for key, candidates in zip(keys, candidates_of(map(filename_for, keys)), strict=True):
        assert candidates.keys == () or key in candidates.keys
        assert candidates.complete <= bool(candidates.keys)


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(
    st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("_" * 8), max_size=40)
    | st.text("_a", max_size=11),
    st.integers(0, 2**64 - 1),
)
def test_any_hash_is_taken(text: str, number: int) -> None:
    """No 64-bit hash raises; what is found has the filename."""
    name = f"{text}-{number:016x}.bin"
    (candidates,) = candidates_of([name], thorough=text.count("_") < 12)
    assert candidates.filename == name
    assert all(filename_for(key) == name for key in candidates.keys)
    assert is_filename(name) or not candidates.keys


def test_names_of_the_rust_code_give_their_keys_back() -> None:
    """Of the 397 names written by the Rust code at least 300 give their key, and none gives a wrong one."""
    found = dict(zip(PAIRS, candidates_of(PAIRS.values()), strict=True))
    assert sum(key in candidates.keys for key, candidates in found.items()) >= 300
    assert [key for key, candidates in found.items() if candidates.keys and key not in candidates.keys] == []


def test_candidates_come_as_found() -> None:
    """Every name is given once, as ``candidates_of`` has it: the easy ones first, the hard ones after them."""
    easy = [filename_for(f"session:{number}/step:{number % 7}") for number in range(2500)]
    hard = [filename_for(planted(11, random.Random(seed))) for seed in range(3)]
    unsolved = [*hopeless(3, (10, 11), 1), filename_for("x" * 300), "foreign.bin"]
    names = [*hard, *unsolved, *easy]
    found = list(candidates_as_found(names))
    by_name = {candidates.filename: candidates for candidates in found}
    assert len(found) == len(names)
    assert [by_name[name] for name in names] == candidates_of(names)
    assert [candidates.filename for candidates in found[-6:]] == [*hard, *unsolved[:3]]


def test_many_keys_of_a_few_templates_are_read() -> None:
    """Keys over several blocks of names all come back."""
    keys = [f"session:{number}/step:{number % 97}" for number in range(40_000)]
    keys += [f"loop:{number}_é:step:{number}" for number in range(30_000)]
    assert [candidates.keys for candidates in candidates_of(map(filename_for, keys))] == [(key,) for key in keys]


def test_nothing_gives_nothing() -> None:
    """No names give no candidates."""
    assert candidates_of([]) == list(candidates_as_found([])) == []


def test_an_interrupt_ends_the_search() -> None:
    """Ctrl-C in the middle of a long search ends it within seconds."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    names = hopeless(400, range(12, 60), 3)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        start = time.process_time()
        with pytest.raises(KeyboardInterrupt):
            candidates_of(names)
        assert time.process_time() - start < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("flint", ["with python-flint", "without python-flint"])
def test_hostile_directories_are_bounded_and_hide_no_key(flint: str) -> None:
    """Names whose patterns all differ cost 6 ms each and 500 MB at most; honest ones among them come out right."""
    program = f"""
import random, sys, time
if {flint == "without python-flint"}:
    sys.modules["flint"] = None
from test_candidates import exempt_keys, hopeless, planted
from persistkit.keys import candidates_of, filename_for
dice = random.Random(1)
expected = dict.fromkeys(hopeless(600, (9, 10, 11), 1), ())
expected |= {{filename_for(key): (key,) for key in [*exempt_keys(100, 2), *(planted(11, dice) for _ in range(20))]}}
names = dice.sample(list(expected), len(expected))
before = time.process_time()
found = candidates_of(names)
seconds = time.process_time() - before
assert all(set(candidates.keys) >= set(expected[candidates.filename]) for candidates in found)
assert all(bool(candidates.keys) == bool(expected[candidates.filename]) for candidates in found)
# Not ru_maxrss: a child inherits its parent's.
print(seconds, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    seconds, kibibytes = map(float, done.stdout.split())
    assert seconds < 720 * 0.006
    assert kibibytes < 500 * 1024
