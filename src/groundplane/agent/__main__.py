"""`python -I -m groundplane.agent --home HOME`: the agent detaches and serves until nobody needs it."""

from __future__ import annotations

import fcntl
import os
import sys


def main() -> int:
    """0: an agent serves that home now, this one or another. 2: wrong usage."""
    arguments = sys.argv[1:]
    if len(arguments) not in (2, 3) or arguments[0] != "--home" or arguments[2:] not in ([], ["--take-over"]):
        print("usage: python -I -m groundplane.agent --home HOME", file=sys.stderr)
        return 2
    home = os.path.realpath(arguments[1])
    if arguments[2:]:
        from groundplane.agent.main import serve

        return serve(home, -1)
    os.makedirs(home, mode=0o700, exist_ok=True)
    os.makedirs(f"{home}/agent", mode=0o700, exist_ok=True)
    if os.fork():
        return 0
    os.setsid()
    lock = os.open(f"{home}/agent/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0  # another one serves this home
    log = os.open(f"{home}/agent/agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, fd)
    os.chdir("/")
    from groundplane.agent.main import serve

    return serve(home, lock)


sys.exit(main())
