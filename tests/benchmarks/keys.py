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
Family = Callable[[random.Random], str]


def word(dice: random.Random) -> str:
    """Return one word."""
    return dice.choice(WORDS)


def snake(dice: random.Random, least: int = 1, most: int = 3) -> str:
    """Return words joined by underscores."""
    return "_".join(dice.choices(WORDS, k=dice.randint(least, most)))


def digits(dice: random.Random, most: int = 9999) -> str:
    """Return a number."""
    return str(dice.randint(0, most))


def hexadecimal(dice: random.Random, size: int = 8) -> str:
    """Return an identifier."""
    return f"{dice.getrandbits(4 * size):0{size}x}"


def url_in_query(dice: random.Random) -> str:
    """Return a URL with a port, and a URL in its query."""
    path = "/".join(snake(dice, 1, 2) for _ in range(dice.randint(1, 3)))
    inner = f"https://{word(dice)}.org/{snake(dice)}"
    return f"http://{word(dice)}.{word(dice)}.com:{dice.randint(1000, 9999)}/{path}?{snake(dice, 1, 2)}={inner}"


def json_fields(dice: random.Random) -> str:
    """Return JSON with three fields."""
    space = dice.choice(["", " "])
    fields = [f'"{snake(dice, 1, 2)}":{space}"{word(dice)}"' for _ in range(2)]
    return "{" + f",{space}".join([*fields, f'"{word(dice)}":{space}{digits(dice)}']) + "}"


def html_tag(dice: random.Random) -> str:
    """Return an HTML element with attributes."""
    tag = dice.choice(["a", "div", "span", "p", "img", "li", "td"])
    attributes = " ".join(f'{dice.choice(["href", "class", "id", "src"])}="/{snake(dice, 1, 2)}"' for _ in range(2))
    return f"<{tag} {attributes}>{word(dice)} {word(dice)}</{tag}>"


def chat(dice: random.Random) -> str:
    """Return a chat template's text."""
    role = dice.choice(["user", "assistant", "system"])
    return f"<|start_header_id|>{role}<|end_header_id|>{word(dice)} {word(dice)} {digits(dice)}<|eot_id|>"


def snake_path(dice: random.Random) -> str:
    """Return a path of snake_case words with ``/ : _ ?``, thirteen to sixteen places."""
    text = word(dice)
    for _ in range(dice.randint(13, 16)):
        text += dice.choices("_/:?", weights=[60, 25, 10, 5])[0] + word(dice)
    return text


def mixture(places: int) -> Family:
    """Return a family of words between random ones of the ten characters."""
    return lambda dice: "".join(word(dice) + dice.choice(TEN) for _ in range(places)) + word(dice)


def agent(dice: random.Random) -> str:
    """Return a key of an agent's step."""
    return (
        f"agent:{snake(dice)}/run:{digits(dice)}/step:{digits(dice, 99)}/tool:{snake(dice, 2, 3)}?try={digits(dice, 9)}"
    )


def cached(dice: random.Random) -> str:
    """Return a key of a cached call."""
    return f"cache/{snake(dice, 2, 3)}:{hexadecimal(dice)}/{word(dice)}={snake(dice, 1, 2)}|{word(dice)}={digits(dice)}"


def windows_path(dice: random.Random) -> str:
    """Return a path of Windows."""
    return f"C:\\Users\\{snake(dice, 1, 2)}\\" + "\\".join(snake(dice) for _ in range(4)) + f"\\{snake(dice)}.txt"


def sql(dice: random.Random) -> str:
    """Return a statement of SQL."""
    columns = dice.choice(["*", f"COUNT(*), {snake(dice, 2, 2)}", snake(dice, 2, 2)])
    operator = dice.choice([">", "<", ">=", "<=", "<>", "="])
    table, field = snake(dice, 2, 2), snake(dice, 2, 2)
    return f'SELECT {columns} FROM {table} WHERE {field} {operator} {digits(dice)} AND {word(dice)} = "{snake(dice)}"'  # noqa: S608


def glob(dice: random.Random) -> str:
    """Return a pattern of filenames."""
    last = dice.choice(["*", "**", "part_*"]) + dice.choice([".csv", ".py"])
    return f"{word(dice)}/**/{snake(dice, 2, 3)}_*/{snake(dice)}_??/{last}"


def cron(dice: random.Random) -> str:
    """Return a line of a crontab."""
    times = " ".join(dice.choice(["*", f"*/{digits(dice, 30)}", digits(dice, 23)]) for _ in range(5))
    return f"{times} /usr/bin/{snake(dice, 1, 2)} /etc/{snake(dice, 1, 2)}.conf > /var/log/{word(dice)}"


def markdown(dice: random.Random) -> str:
    """Return some Markdown."""
    link = f"[{word(dice)}](https://{word(dice)}.org/{snake(dice, 1, 2)})"
    return f"# {word(dice)}: **{snake(dice, 1, 2)}** *{word(dice)}* {link} | {word(dice)} |"


def timed(dice: random.Random) -> str:
    """Return a log's key with a time."""
    day = f"2026-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
    clock = f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:{dice.randint(0, 59):02}"
    return f"log/{snake(dice)}/{day}T{clock}+00:00/{snake(dice, 2, 3)}:{digits(dice)}"


def ipv6(dice: random.Random) -> str:
    """Return an address of IPv6 with a port and a path."""
    return f"[{':'.join(hexadecimal(dice, 4) for _ in range(8))}]:{digits(dice)}/{snake(dice, 1, 3)}"


def deep_path(dice: random.Random) -> str:
    """Return a deep path of snake_case names."""
    return "/".join(snake(dice, 1, 4) for _ in range(dice.randint(6, 9)))


FAMILIES: dict[str, Family] = {
    "URL with a port, URL in a query": url_in_query,
    "JSON with three fields": json_fields,
    "HTML tag": html_tag,
    "<|start_header_id|>user<|end_header_id|>...": chat,
    "snake_case path with / : _ ?, 13 to 16 places": snake_path,
    **{f"random mixture of the ten characters, {places} places": mixture(places) for places in range(8, 15)},
    "agents": agent,
    "caches": cached,
    "Windows paths": windows_path,
    "SQL": sql,
    "globs": glob,
    "cron": cron,
    "Markdown": markdown,
    "times": timed,
    "IPv6": ipv6,
    "deep paths": deep_path,
}


def keys_of(family: Family, count: int, seed: int) -> list[str]:
    """Return different keys of a family whose filenames are not cut."""
    dice = random.Random(seed)
    keys: dict[str, None] = {}
    while len(keys) < count:
        key = family(dice)
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
    for name, family in FAMILIES.items():
        if arguments.only not in name:
            continue
        keys = keys_of(family, arguments.count, 1)
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
    honest = [key for family in (agent, cached, timed, mixture(9)) for key in keys_of(family, arguments.count // 40, 2)]
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
    families = {name: family for name, family in FAMILIES.items() if "mixture" not in name}
    share = arguments.count // (len(families) + 1)
    realistic = {name: keys_of(family, share, 3) for name, family in families.items()}
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
