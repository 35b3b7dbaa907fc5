"""Races of several processes for the result of one cached function, some of which kill the one that computes.

Run as a program it is one of the processes: ``python races.py <address> <options as JSON> <log> <how>``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import persistkit

__all__ = ["race"]


def race(
    place: tuple[str, dict[str, Any]], log: Path, *, races: int, processes: int, kill_each: int, how: str = "cache"
) -> tuple[int, int]:
    """Let processes race, each race for a new result; one that computes dies in every ``kill_each``-th race.

    ``how`` is ``cache``, or ``look first`` for the control, which looks, computes and stores in three steps.

    Returns:
        How many results were computed more than once, and how many processes died.
    """
    address, options = place
    log.touch()

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, __file__, address, json.dumps(options), str(log), how]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    racing = [start() for _ in range(processes)]
    died = 0
    try:
        for number in range(races):
            dies = number % kill_each == kill_each - 1
            for process in racing:
                assert process.stdin is not None
                process.stdin.write(f"{number} {int(dies)}\n")
                process.stdin.flush()
            for place_of, process in enumerate(racing):
                assert process.stdout is not None
                answer = process.stdout.readline()
                if answer:
                    assert answer == f"{number} squared is {number * number}\n"
                else:
                    process.communicate(timeout=10)
                    assert process.returncode == -signal.SIGKILL
                    died += 1
                    racing[place_of] = start()
    finally:
        for process in racing:
            process.kill()
            process.communicate()
    computed = Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith("computed"))
    assert computed.keys() == {str(number) for number in range(races)}
    return sum(count > 1 for count in computed.values()), died


def _one_process(address: str, options: dict[str, Any], log: Path, how: str) -> None:
    store = persistkit.open(address, create=True, **options)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)

    def square(number: int, dies: bool) -> int:
        if dies and f"begun {number}\n" not in log.read_text():
            os.write(descriptor, f"begun {number}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.002)
        os.write(descriptor, f"computed {number}\n".encode())
        return number * number

    def look_first(number: int, dies: bool) -> int:
        if f"{number}" not in store:
            store[f"{number}"] = square(number, dies)
        result: int = store[f"{number}"]
        return result

    cached = store.cache(name="square", ignore=["dies", "log", "descriptor"])(square)
    asked: Callable[[int, bool], int] = cached if how == "cache" else look_first
    for line in sys.stdin:
        number, dies = map(int, line.split())
        print(f"{number} squared is {asked(number, bool(dies))}", flush=True)


if __name__ == "__main__":
    _one_process(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
