"""Work in forked children, for what must not happen to the tests' own process."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable
from multiprocessing import get_context

__all__ = ["CAN_REFUSE_SYNCS", "become_nobody", "in_child", "refuse_syncs"]

# fsync, fdatasync, sync_file_range and msync, by machine.
_CALLS = {"x86_64": (74, 75, 277, 26), "aarch64": (82, 83, 84, 227)}
CAN_REFUSE_SYNCS = sys.platform == "linux" and platform.machine() in _CALLS
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child that ends as scripts end, and see that it succeeds."""
    process = get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def become_nobody() -> None:
    """Give up being root."""
    os.setgroups([])
    os.setgid(65_534)
    os.setuid(65_534)


def refuse_syncs() -> None:
    """Let every sync of this thread fail with EIO from now on, so that whoever says it synced is found out."""
    calls = _CALLS[platform.machine()]
    program = [(_LOAD, 0, 0, 0)]  # the number of the call
    program += [(_JUMP_IF_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR | errno.EIO)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filtering = struct.pack("HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, filtering, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp refuses a filter")
