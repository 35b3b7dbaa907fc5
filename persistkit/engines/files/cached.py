"""Cached loads: the bytes of small files that are in the system's cache, without ever waiting for a disk.

``openat2`` with ``RESOLVE_CACHED`` (Linux 5.12) opens a file only if its directory entries are in memory;
``preadv`` with ``RWF_NOWAIT`` (Linux 4.14) reads only what is in memory. tmpfs, network file systems and files that
were not read lately refuse.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
import struct
import sys
from pathlib import Path
from typing import Final

__all__ = ["CachedReader"]

_MAX_BYTES: Final = 65_536
_ENCODING: Final = sys.getfilesystemencoding()
_OPENAT2: Final = 437
_AT_FDCWD: Final = -100
_RESOLVE_CACHED: Final = 0x20
# Opening a file on one of these asks nobody else, and RWF_NOWAIT is known to them.
_LOCAL: Final = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs"})
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.E2BIG})


class CachedReader:
    """Reads small files of one directory that the kernel can give at once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._supported: bool | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return CachedReader, (self._root,)

    def read(self, path: str, owner_path: str | None = None) -> bytes | None:
        """Return the content of the file; None when it is missing, large, a link, or not in memory.

        With ``owner_path`` also None unless the kernel knows, from having looked before, that no such file is there.
        """
        descriptor = self._open(path)
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                return None
            buffer = bytearray(status.st_size + 1)
            read = os.preadv(descriptor, [buffer], 0, os.RWF_NOWAIT)
        except OSError as error:
            self._supported = error.errno not in _UNSUPPORTED
            return None
        finally:
            os.close(descriptor)
        if owner_path is not None and not self._is_missing(owner_path):
            return None
        return bytes(memoryview(buffer)[:read]) if read == status.st_size else None

    def _is_missing(self, path: str) -> bool:
        descriptor = self._open(path)
        if descriptor is None:
            return self._errno() == errno.ENOENT
        os.close(descriptor)
        return False

    def _open(self, path: str) -> int | None:
        if self._supported is None:
            self._supported = self._prepare()
        if not self._supported:
            return None
        encoded = path.encode(_ENCODING, "surrogateescape")
        descriptor: int = self._call(_OPENAT2, _AT_FDCWD, encoded, self._how, len(self._how))
        if descriptor < 0:
            self._supported = self._errno() not in _UNSUPPORTED
            return None
        return descriptor

    def _prepare(self) -> bool:
        if not _answers_at_once(self._root):
            return False
        try:
            import ctypes  # here, because it takes a while to import
        except (ImportError, OSError):  # not part of every Python; or no more files can be opened
            return False
        # PyDLL, because the call never waits: giving up the interpreter's lock would take longer than the call.
        self._call = ctypes.PyDLL(None, use_errno=True).syscall
        self._call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
        self._call.restype = ctypes.c_long
        self._errno = ctypes.get_errno
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._how = struct.pack("QQQ", flags, 0, _RESOLVE_CACHED)
        return True


def _answers_at_once(root: str) -> bool:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64") or struct.calcsize("P") != 8:
        return False
    try:
        device = os.stat(root).st_dev  # noqa: PTH116
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:  # it cannot be known; what is wrong with the directory, load tells
        return False
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = {line.partition(" - ")[2].partition(" ")[0] for line in mounts if line.split(" ", 3)[2] == number}
    return bool(kinds) and kinds <= _LOCAL
