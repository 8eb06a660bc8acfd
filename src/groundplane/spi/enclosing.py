"""A process that gives up what it does not need, for good, before it reads what a stranger made: Landlock keeps it to
two folders, a filter of system calls from sockets, programs and other processes. One that asks a server keeps TCP, to
one port where the kernel can tell ports apart (Landlock 4).

It needs neither rights nor bubblewrap: a pod can do it. Of files whose names it guesses, it can still ask whether they
are there. The numbers for aarch64 are untested.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _LIST, _REMOVE, _MAKE, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 8, 1 << 14
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Every right that a version of Landlock knows; a version that is missing here has those of the one before."""
_NET, _SCOPES = 0b11, 0b11
"""TCP to and from anywhere (version 4); abstract sockets of others and signals to them (6)."""
_CONNECT, _BENEATH, _PORT = 2, 1, 2
_NO_NEW_PRIVILEGES, _SECCOMP, _DROP = 38, 22, 24
_DENIED = {
    "x86_64": (
        *(53, 425),  # socketpair, io_uring_setup
        *(59, 322, 57, 58, 272, 308, 165),  # execve, execveat, fork, vfork, unshare, setns, mount
        *(62, 200, 234, 129, 297, 424, 434, 438),  # kill and its kin, pidfd_open, pidfd_getfd
        *(101, 310, 311, 298, 321, 323),  # ptrace, process_vm_*, perf_event_open, bpf, userfaultfd
        *(248, 249, 250, 304),  # keys, open_by_handle_at
        *(29, 30, 64, 68, 240),  # memory, semaphores and queues that others have too
        *(76, 90, 91, 92, 93, 94, 260, 268, 452),  # truncate, and who owns a file and may do what with it
        *(188, 189, 190, 197, 198, 199, 132, 235, 261, 280),  # its attributes and times
    ),
    "aarch64": (
        *(199, 425, 221, 281, 97, 268, 40, 129, 130, 131, 138, 240, 424, 434, 438),
        *(117, 270, 271, 241, 280, 282, 217, 218, 219, 265, 194, 196, 190, 186, 180),
        *(45, 52, 53, 54, 55, 452, 5, 6, 7, 14, 15, 16, 88),
    ),
}
"""System calls by their numbers, the same in both lists."""
_ARCHITECTURES = {"x86_64": (0xC000003E, 56, 41), "aarch64": (0xC00000B7, 220, 198)}
"""What the kernel calls it, and the numbers of `clone` and `socket` there."""
_INTERNET, _STREAM, _KINDS = (2, 10), 1, 15
_CLONE3, _THREAD = 435, 0x10000
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06


class _Folder(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("words", ctypes.c_void_p))


def unavailable() -> str:
    """Why processes cannot enclose themselves here; "" when they can."""
    if platform.machine() not in _ARCHITECTURES:
        return f"the system calls of {platform.machine()} are not known"
    return "" if _version() > 0 else "the kernel has no Landlock"


def enclose(readable: Iterable[str], writable: str, port: int | None = None) -> None:
    """From now on this process, which has one thread, reads what `readable` names, writes files in the folder
    `writable` and those below it, connects to that TCP port (None: to nothing), and may do nothing else to anybody.
    Raises OSError: then it is not enclosed."""
    system = ctypes.CDLL(None, use_errno=True)
    _call(system.prctl, _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _keep_to(system, readable, writable, port)
    _give_up_rights(system)
    _filter(system, connects=port is not None)


def _version() -> int:
    return ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, ctypes.c_size_t(0), 1)


def _call(function: ctypes._FuncPointer, *words: object) -> int:  # pyright: ignore[reportPrivateUsage]
    found: int = function(*words)
    if found < 0:
        raise OSError(ctypes.get_errno(), f"this process cannot be enclosed: {os.strerror(ctypes.get_errno())}")
    return found


def _keep_to(system: ctypes.CDLL, readable: Iterable[str], writable: str, port: int | None) -> None:
    version = _version()
    known = _ALL[max((each for each in _ALL if each <= version), default=1)]
    handled = (ctypes.c_uint64 * 3)(known, _NET, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call(system.syscall, _CREATE, handled, ctypes.c_size_t(size), 0)
    write = known & (_READ | _WRITE | _LIST | _REMOVE | _MAKE | _TRUNCATE)
    for path, rights in [*((each, _EXECUTE | _READ | _LIST) for each in readable), (writable, write)]:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if Path(path).is_dir() else rights & ~_LIST
        _call(system.syscall, _ADD, rules, _BENEATH, ctypes.byref(_Folder(allowed, folder)), 0)
        os.close(folder)
    if port is not None and version >= 4:
        _call(system.syscall, _ADD, rules, _PORT, ctypes.byref(_Port(_CONNECT, port)), 0)
    _call(system.syscall, _RESTRICT, rules, 0)
    os.close(rules)


def _give_up_rights(system: ctypes.CDLL) -> None:
    """Root's; of others there are none."""
    if os.geteuid() != 0:
        return
    for right in range(64):
        system.prctl(_DROP, right, 0, 0, 0)  # fails for one that this kernel does not know
    none = (ctypes.c_uint32 * 6)()
    _call(system.capset, (ctypes.c_uint32 * 2)(0x20080522, 0), none)


def _filter(system: ctypes.CDLL, *, connects: bool) -> None:
    machine = platform.machine()
    called, clone, socket = _ARCHITECTURES[machine]
    words = [
        *(_word(_LOAD, 4), _word(_EQUAL, called, 1, 0), _word(_RETURN, _KILL)),
        *(_word(_LOAD, 0), _word(_AT_LEAST, 0x40000000, 0, 1), _word(_RETURN, _ERROR | _EPERM)),
    ]
    if connects:  # sockets of TCP alone
        words += [_word(_EQUAL, socket, 0, 8), _word(_LOAD, 24), _word(_AND, _KINDS), _word(_EQUAL, _STREAM, 0, 3)]
        words += [_word(_LOAD, 16), *(_word(_EQUAL, each, 2 - number) for number, each in enumerate(_INTERNET))]
        words += [_word(_RETURN, _ERROR | _EPERM), _word(_RETURN, _ALLOW)]
    for number in (socket, *_DENIED[machine]):
        words += [_word(_EQUAL, number, 0, 1), _word(_RETURN, _ERROR | _EPERM)]
    words += [_word(_EQUAL, _CLONE3, 0, 1), _word(_RETURN, _ERROR | _ENOSYS)]  # whose flags no filter sees
    words += [_word(_EQUAL, clone, 0, 3), _word(_LOAD, 16), _word(_ANY_BIT, _THREAD, 1, 0)]
    words += [_word(_RETURN, _ERROR | _EPERM), _word(_RETURN, _ALLOW)]
    whole = ctypes.create_string_buffer(b"".join(words))
    _call(system.prctl, _SECCOMP, 2, ctypes.byref(_Filter(len(words), ctypes.addressof(whole))), 0, 0)


def _word(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction: how many of the next are left out when it holds, and when not."""
    return code.to_bytes(2, "little") + bytes((then, otherwise)) + value.to_bytes(4, "little")
