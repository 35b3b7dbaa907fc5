"""Payloads as LangGraph packs them, whole and damaged, and a process that reads them under watch."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from typing import Any

import msgpack

ONE, ARGUMENTS, KEYWORDS, METHOD, PYDANTIC_1, PYDANTIC_2, ARRAY, SNAPSHOT = range(8)


def ext(code: int, *content: Any) -> msgpack.ExtType:
    """Return an object as LangGraph packs it."""
    return msgpack.ExtType(code, msgpack.packb(list(content)))


# Fails where a payload made Python import a module, take long, or take much memory.
CHECK = """
import resource, struct, sys, time
sys.path[:0] = {paths!r}
from persistkit.errors import FormatError
from persistkit.formats.langgraph import decode_payload
import msgpack, numpy, datetime, uuid, decimal
data = sys.stdin.buffer.read()
decode_payload("msgpack", b"\\x01")
size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, at = set(sys.modules), 0
while at < len(data):
    (length,) = struct.unpack_from("<I", data, at)
    payload, at = data[at + 4 : at + 4 + length], at + 4 + length
    began = time.process_time()
    try:
        decode_payload("msgpack", payload)
        print("value")
    except FormatError:
        print("damaged")
    assert time.process_time() - began < 2, payload[:50]
assert set(sys.modules) == before, set(sys.modules) - before
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 500_000
"""


def in_a_process(payloads: list[bytes]) -> list[str]:
    """Decode payloads in a process of their own, which sees that nothing is imported; return what came of each."""
    packed = b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)
    program = CHECK.format(paths=sys.path)
    done = subprocess.run([sys.executable, "-c", program], input=packed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().split()


def mutants(count: int) -> list[bytes]:
    """Return payloads of many kinds of value, each with a few bytes changed, cut out or put in."""
    dice = random.Random(count)
    message = ext(
        PYDANTIC_2, "langchain_core.messages.ai", "AIMessage", {"content": "x" * 40, "id": None, "tool_calls": []}
    )
    array = ext(ARRAY, "<f8", [2, 3], "C", bytes(48))
    value = {"v": 4, "channel_values": {"messages": [message] * 3, "scores": array, 1: [None, 2.5, b"x" * 20]}}
    whole = bytes(msgpack.packb(value))
    made = []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(data))
            cut = dice.randrange(3)
            data[at : at + cut] = dice.randbytes(dice.randrange(1, 4)) if dice.random() < 0.8 else b""
        made.append(bytes(data))
    return made
