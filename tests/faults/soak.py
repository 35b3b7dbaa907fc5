"""One soaking process: it does everything to one directory until it is killed, and says what was acknowledged.

Started by ``test_soak`` as a program. Each process owns keys of its own, so that what it acknowledged is known, and
shares others with the rest. Its output, a line an event: ``begin`` and ``done`` around each change of an own key, as
``op key number``, and ``wrong`` with what broke a promise.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from hashlib import sha256
from pathlib import Path

from persistkit import FilePersistenceBackend as Files
from persistkit.errors import BatchError, KeyCollisionError
from persistkit.keys import needs_owner_file

OWN = ["plain", "a/b", "c:d?e", "x" * 300, "half?>", "日本語/メモ", "odd_*|<", "many/" * 5]
SHARED = ["shared/plain", "shared/?>", "shared/>_", "shared/" + "y" * 260, "shared/<|", "shared/>:"]
SIZES = [0, 1, 100, 4_096, 70_000, 300_000]


def own_keys(owner: int) -> list[str]:
    """Return the keys that only this process changes."""
    return [f"p{owner}/{own}" for own in OWN]


def all_keys(processes: int) -> set[str]:
    """Return every key that any process may save."""
    return {key for owner in range(processes) for key in own_keys(owner)} | set(SHARED)


def value_of(key: str, number: int, size: int) -> bytes:
    """Return a value that tells whose and which it is, and whether it is whole."""
    body = f"{key}\0{number}\0".encode() + os.urandom(1) * size
    return sha256(body).digest() + body


def read(key: str, value: bytes | None) -> int | None:
    """Return the number of a value, None where there is none.

    Raises:
        ValueError: it is torn, or another key's.
    """
    if value is None:
        return None
    if sha256(value[32:]).digest() != value[:32]:
        raise ValueError(f"torn: {key[:40]!r}, {len(value):,} bytes")
    found, number, _ = value[32:].split(b"\0", 2)
    if found != key.encode():
        raise ValueError(f"{key[:40]!r} holds the value of {found[:40]!r}")
    return int(number)


class TornFiles(Files):
    """The control: owns its names as it should and writes in place, as a simple program does."""

    async def save(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Write the file itself, in pieces."""
        if needs_owner_file(key):
            await super().save(key, value)
            return
        with self.path_for(key).open("wb") as file:
            for start in range(0, len(value), 4_096):
                file.write(value[start : start + 4_096])
                file.flush()


class HastyFiles(Files):
    """The control: says that a value is saved, and writes it with the next one."""

    _held: tuple[str, bytes] | None = None

    async def save(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Write the value before, and hold this one."""
        if self._held is not None:
            await super().save(*self._held)
        self._held = key, bytes(value)


FILES = {"kept": Files, "torn": TornFiles, "hasty": HastyFiles}


class Soaker:
    """One process's work."""

    def __init__(self, backend: Files, owner: int, processes: int, start: int) -> None:
        self._backend = backend
        self._own = own_keys(owner)
        self._keys = all_keys(processes)
        self._number = start
        self._dice = random.Random(start)

    async def run(self) -> None:
        """Work until killed."""
        works = [
            self.save,
            self.save,
            self.stream,
            self.delete,
            self.batch,
            self.share,
            self.load,
            self.list,
            self.check,
        ]
        while True:
            await self._dice.choice(works)()

    def _next(self) -> tuple[str, bytes]:
        self._number += 1
        key = self._dice.choice(self._own)
        return key, value_of(key, self._number, self._dice.choice(SIZES))

    async def save(self) -> None:
        """Save an own key."""
        key, value = self._next()
        tell("begin", "save", key, self._number)
        await self._backend.save(key, value)
        tell("done", "save", key, self._number)

    async def stream(self) -> None:
        """Save an own key in chunks."""
        key, value = self._next()
        tell("begin", "save", key, self._number)
        async with self._backend.open_writer(key) as writer:
            for start in range(0, len(value), 65_536):
                await writer.write(value[start : start + 65_536])
        tell("done", "save", key, self._number)

    async def delete(self) -> None:
        """Delete an own key."""
        key, _ = self._next()
        tell("begin", "delete", key, self._number)
        await self._backend.delete(key)
        tell("done", "delete", key, self._number)

    async def batch(self) -> None:
        """Save several own keys at once."""
        pairs = {}
        for _ in range(4):
            key, value = self._next()
            pairs[key] = (value, self._number)
        for key, (_, number) in pairs.items():
            tell("begin", "save", key, number)
        await self._backend.batch_save({key: value for key, (value, _) in pairs.items()})
        for key, (_, number) in pairs.items():
            tell("done", "save", key, number)

    async def share(self) -> None:
        """Save or delete a key that others change too; the other half of a collision may be refused."""
        self._number += 1
        key = self._dice.choice(SHARED)
        try:
            if self._dice.random() < 0.3:
                await self._backend.batch_delete([key])
            else:
                await self._backend.batch_save({key: value_of(key, self._number, self._dice.choice(SIZES))})
        except BatchError as error:
            for failure in error.failures.values():
                if not isinstance(failure, KeyCollisionError):
                    tell("wrong", str(failure))

    async def load(self) -> None:
        """Load every key: whole, and its own."""
        keys = sorted(self._keys)
        for key, value in zip(keys, await self._backend.batch_load(keys), strict=True):
            try:
                read(key, value)
            except ValueError as error:
                tell("wrong", str(error))

    async def list(self) -> None:
        """List: only true keys."""
        for key in set(await self._backend.list_keys()) - self._keys:
            tell("wrong", f"listed {key[:60]!r}")
        async for entry in self._backend.entries("shared/"):
            if entry.key not in SHARED:
                tell("wrong", f"listed {entry.key!r}")

    async def check(self) -> None:
        """Check and repair, as a janitor beside living writers."""
        for finding in await self._backend.check(repair=True):
            if finding.problem not in ("temp left behind", "owner file without value"):
                tell("wrong", f"check: {finding.problem}: {finding.filename[:60]!r}")


def tell(*words: object) -> None:
    """Write one event, at once."""
    os.write(1, ("\t".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    base, kind, owner, processes, start = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    asyncio.run(Soaker(FILES[kind](Path(base)), owner, processes, start).run())
