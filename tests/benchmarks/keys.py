"""How many true keys are read from filenames, and how fast.

    python tests/benchmarks/keys.py families        how the names of each family of keys are read, by directory
    python tests/benchmarks/keys.py hostile         10,000 names with patterns of their own, none of them a key's
    python tests/benchmarks/keys.py owners          how many of a million keys need an owner file
    python tests/benchmarks/keys.py speed           a template's names and this machine's paths, as one listing

Each takes ``--count``; see ``--help``.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import time
from collections import Counter
from collections.abc import Callable

from persistkit.keys import candidates_of, filename_for, needs_owner_file

# fmt: off
WORDS = [
    "agent", "answer", "batch", "cache", "call", "chunk", "config", "data", "default", "doc", "embed", "error",
    "event", "field", "file", "final", "flow", "form", "group", "host", "image", "index", "input", "item", "job",
    "label", "layer", "line", "list", "loop", "main", "memory", "message", "meta", "model", "name", "node", "note",
    "order", "output", "page", "parse", "part", "path", "plan", "prompt", "query", "rank", "read", "report", "result",
    "retry", "role", "route", "run", "score", "search", "session", "shard", "step", "store", "stream", "summary",
    "table", "task", "team", "text", "time", "token", "tool", "trace", "train", "tree", "unit", "user", "value", "view",
    "vote", "web", "work",
]
# fmt: on
TEN = '_/\\:*?"<>|'
# What stands for a part of a key in the templates below.
PARTS: dict[str, Callable[[random.Random], str]] = {
    "word": lambda dice: dice.choice(WORDS),
    "some": lambda dice: "_".join(dice.choices(WORDS, k=dice.randint(1, 2))),
    "name": lambda dice: "_".join(dice.choices(WORDS, k=dice.randint(1, 3))),
    "long": lambda dice: "_".join(dice.choices(WORDS, k=dice.randint(2, 3))),
    "number": lambda dice: str(dice.randint(0, 9999)),
    "digits": lambda dice: f"{dice.randint(10, 59)}",
    "hex": lambda dice: f"{dice.getrandbits(32):08x}",
    "group": lambda dice: f"{dice.getrandbits(16):04x}",
    "mark": lambda dice: dice.choice(TEN),
    "join": lambda dice: dice.choices("_/:?", weights=[60, 25, 10, 5])[0],
    "tag": lambda dice: dice.choice(["a", "div", "span", "p", "img", "li", "td"]),
    "attribute": lambda dice: dice.choice(["href", "class", "id", "src"]),
    "role": lambda dice: dice.choice(["user", "assistant", "system"]),
    "pair": lambda dice: "_".join(dice.choices(WORDS, k=2)),
    "columns": lambda dice: dice.choice(["*", "COUNT(*), team_name", "team_name"]),
    "compare": lambda dice: dice.choice([">", "<", ">=", "<=", "<>", "="]),
    "every": lambda dice: dice.choice(["*", f"*/{dice.randint(0, 30)}", str(dice.randint(0, 23))]),
    "last": lambda dice: dice.choice(["*", "**", "part_*"]) + dice.choice([".csv", ".py"]),
}
FAMILIES = {
    "URL with a port, URL in a query": "http://$word.$word.com:$number/$some/$some?$some=https://$word.org/$name",
    "JSON with three fields": '{"$some": "$word", "$some": "$word", "$word": $number}',
    "HTML tag": '<$tag $attribute="/$some" $attribute="/$some">$word $word</$tag>',
    "<|start_header_id|>user<|end_header_id|>...": (
        "<|start_header_id|>$role<|end_header_id|>$word $word $number<|eot_id|>"
    ),
    "snake_case path with / : _ ?, 14 places": "$word" + "$join$word" * 14,
    **{
        f"random mixture of the ten characters, {places} places": "$word" + "$mark$word" * places
        for places in range(8, 15)
    },
    "agents": "agent:$name/run:$number/step:$digits/tool:$long?try=$digits",
    "caches": "cache/$long:$hex/$word=$some|$word=$number",
    "Windows paths": r"C:\Users\$some\$name\$name\$name\$name\$name.txt",
    "SQL": 'SELECT $columns FROM $pair WHERE $pair $compare $number AND $word = "$name"',
    "globs": "$word/**/${long}_*/${name}_??/$last",
    "cron": "$every $every $every $every $every /usr/bin/$some /etc/$some.conf > /var/log/$word",
    "Markdown": "# $word: **$some** *$word* [$word](https://$word.org/$some) | $word |",
    "times": "log/$name/2026-11-${digits}T$digits:$digits:$digits+00:00/$long:$number",
    "IPv6": "[$group:$group:$group:$group:$group:$group:$group:$group]:$number/$name",
    "deep paths": "/".join(["$name"] * 8),
}


def key_of(template: str, dice: random.Random) -> str:
    """Return a key of a family: each ``$part`` of its template becomes something else each time."""
    return re.sub(r"\$\{?([a-z]+)\}?", lambda found: PARTS[found[1]](dice), template)


def keys_of(family: str, count: int, seed: int) -> list[str]:
    """Return different keys of a family whose filenames are not cut."""
    dice = random.Random(seed)
    keys: dict[str, None] = {}
    while len(keys) < count:
        key = key_of(FAMILIES[family], dice)
        if len(key.encode()) <= 230:
            keys[key] = None
    return list(keys)


def outcomes(keys: list[str]) -> Counter[str]:
    """Count how the names of the keys, in one directory, are read."""
    counted: Counter[str] = Counter()
    for key, candidates in zip(keys, candidates_of(map(filename_for, keys)), strict=True):
        if not candidates.keys:
            counted["not read"] += 1
        elif key not in candidates.keys:
            counted["WRONG"] += 1
        else:
            counted["read" if candidates.complete and len(candidates.keys) == 1 else "ambiguous"] += 1
    return counted


def show_families(arguments: argparse.Namespace) -> None:
    """Print, for each family, how its names are read in directories of a given size."""
    for name in FAMILIES:
        if arguments.only not in name:
            continue
        keys = keys_of(name, arguments.count, 1)
        counted: Counter[str] = Counter()
        before = time.process_time()
        for start in range(0, len(keys), arguments.directory):
            counted += outcomes(keys[start : start + arguments.directory])
        seconds = (time.process_time() - before) / len(keys)
        places = sum(letter in TEN for key in keys for letter in key) / len(keys)
        shares = ", ".join(f"{kind} {number / len(keys):.3%}" for kind, number in sorted(counted.items()))
        print(f"{name}: {places:.1f} places, {shares}, {seconds * 1e3:.2f} ms a name", flush=True)


def hostile_names(count: int, places: range, seed: int) -> list[str]:
    """Return names with so many underscores, each at places of its own, and a random hash."""
    dice = random.Random(seed)
    names = []
    for number in range(count):
        doubts = places[number % len(places)]
        length = dice.randrange(doubts + 8, 230)
        text = ["a"] * length
        for place in dice.sample(range(length), doubts):
            text[place] = "_"
        names.append(f"{''.join(text)}-{dice.getrandbits(64):016x}.bin")
    return names


def show_hostile(arguments: argparse.Namespace) -> None:
    """Print what names cost that no key fits, with a tenth as many honest ones among them."""
    families = ("agents", "caches", "times", "random mixture of the ten characters, 9 places")
    honest = [key for family in families for key in keys_of(family, arguments.count // 40, 2)]
    for places in (range(9, 12), range(12, 101)):
        expected = dict.fromkeys(hostile_names(arguments.count, places, 1), "")
        expected |= {filename_for(key): key for key in honest}
        names = random.Random(3).sample(list(expected), len(expected))
        before, spent = time.perf_counter(), time.process_time()
        found = {candidates.filename: candidates.keys for candidates in candidates_of(names)}
        seconds, spent = time.perf_counter() - before, time.process_time() - spent
        right = sum(found[filename_for(key)] == (key,) for key in honest)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{places[0]} to {places[-1]} places: {seconds:.1f} s, {spent:.1f} s of processor, {right} of {len(honest)}"
            f" honest names right, {peak} MB",
            flush=True,
        )


def paths_here(count: int) -> list[str]:
    """Return paths of files on this machine whose filenames are not cut."""
    paths = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in {"proc", "sys", "dev", "tmp"}]
        paths += [f"{folder.rstrip('/')}/{name}" for name in files]
    paths = [path for path in paths if path.isprintable() and len(path.encode()) <= 230]
    return random.Random(1).sample(paths, min(count, len(paths)))


def show_owners(arguments: argparse.Namespace) -> None:
    """Print how many keys of each family need an owner file, and what finding that out costs."""
    families = [name for name in FAMILIES if "mixture" not in name]
    share = arguments.count // (len(families) + 1)
    realistic = {name: keys_of(name, share, 3) for name in families}
    for name, keys in {**realistic, "paths of this machine": paths_here(share)}.items():
        before = time.process_time()
        owned = sum(map(needs_owner_file, keys))
        microseconds = (time.process_time() - before) / len(keys) * 1e6
        print(f"{name}: {owned} of {len(keys)} keys need an owner file, {microseconds:.2f} us a key", flush=True)


def show_speed(arguments: argparse.Namespace) -> None:
    """Print how long the names of one listing take to read."""
    template = [f"session:{number}/step:{number % 97}" for number in range(arguments.count)]
    for name, keys in {"template": template, "paths of this machine": paths_here(arguments.count)}.items():
        names = [filename_for(key) for key in keys]
        for _ in range(5):
            before = time.perf_counter()
            found = sum(len(candidates.keys) for candidates in candidates_of(names))
            print(f"{name}: {time.perf_counter() - before:.2f} s for {found} keys of {len(keys)} names", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["families", "hostile", "owners", "speed"])
    parser.add_argument("--count", type=int, help="keys of each family, or altogether")
    parser.add_argument("--directory", type=int, default=2000, help="names listed together")
    parser.add_argument("--only", default="", help="a part of the families' names")
    arguments = parser.parse_args()
    usual = {"families": 2000, "hostile": 10_000, "owners": 1_000_000, "speed": 100_000}
    arguments.count = arguments.count or usual[arguments.what]
    shows = {"families": show_families, "hostile": show_hostile, "owners": show_owners, "speed": show_speed}
    shows[arguments.what](arguments)


if __name__ == "__main__":
    main()
