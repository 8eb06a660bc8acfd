"""The system calls that the standard library does not offer."""

from __future__ import annotations

import ctypes
import fcntl
import os

_PR_SET_CHILD_SUBREAPER = 36
_MNT_DETACH = 2
_FICLONE = 0x40049409
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Descendants whose parents have ended become this process's children."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise _error("prctl")


def mount(target: str, kind: str, options: str) -> None:
    """mount(2) of a file system without a device. Raises OSError."""
    if _libc.mount(kind.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(0), os.fsencode(options)) != 0:
        raise _error(target)


def unmount(target: str) -> None:
    """umount2(2), at once for names and as soon as possible for what is open. Raises OSError."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        raise _error(target)


def clone_file(target: int, source: int) -> None:
    """Makes the open file `target` share `source`'s blocks. Raises OSError where the file system cannot."""
    fcntl.ioctl(target, _FICLONE, source)


def mounts_below(folder: str) -> list[str]:
    """Mount points below a folder, the deepest first."""
    prefix = os.fsencode(os.path.realpath(folder)) + b"/"
    with open("/proc/self/mountinfo", "rb") as lines:
        points = [line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines]
    return sorted((os.fsdecode(point) for point in points if point.startswith(prefix)), key=len, reverse=True)


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)
