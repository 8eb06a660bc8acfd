"""Programs of the platform's own that read what strangers made, or what their servers say: each a module that runs in a
process of its own, in an interpreter like this one.

For strangers it is confined: by bubblewrap, or by itself, which a host that forbids bubblewrap still allows.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from groundplane.spi import confining


def command(module: str) -> list[str]:
    """What starts it."""
    return [sys.executable, "-I", "-m", module]


def confined(module: str, given: Sequence[str], made: str, home: str, *, network: bool = False) -> list[str]:
    """The same, confined: all that it can reach is `given`, which it reads, and the folder `made`, which it may write
    to. home: the platform's own folder. network: it may connect to others as well; it had better confine itself then,
    for bubblewrap gives it all of this host's network. Raises OSError where it cannot be confined at all."""
    alone = [*command(module), "--enclosed", made, *given]
    if network and not _not_by_itself():
        return alone
    if not _no_bubblewrap():
        return confining.reader(command(module), given, made, home, network=network)
    if why := _not_by_itself():
        raise OSError(errno.EPERM, f"what reads what strangers made cannot be confined: {why}")
    return alone


def unconfined() -> str:
    """Why nothing of strangers can be read here; "" when it can."""
    without = _no_bubblewrap()
    unable = without and _not_by_itself()
    return f"{without}, and {unable}" if unable else ""


@cache
def _no_bubblewrap() -> str:
    return confining.unavailable()


def _not_by_itself() -> str:
    from groundplane.spi import enclosing  # with `ctypes` some ms, that a host with bubblewrap need not spend

    return enclosing.unavailable()


def enclose(made: str, *given: str, port: int | None = None) -> None:
    """What such a program does first, while it has one thread, where it was started to confine itself. port: the only
    one of TCP that it may connect to, where the kernel can tell ports apart; without it, it has no network. Raises
    OSError: then it is not confined."""
    from groundplane.spi import enclosing

    system = ["/usr", "/lib", "/lib64", "/etc/localtime", "/sys/devices/system/cpu", "/dev/null", "/dev/urandom"]
    if port is not None:
        system.append("/etc/ssl/certs")
    seen = [path for path in system if Path(path).exists()]
    enclosing.enclose((*seen, *confining.interpreter(), *given), made, port)


def environment(**more: str) -> dict[str, str]:
    """What it is started with: nothing of the platform's own but what its interpreter may need."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {**kept, "PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **more}
