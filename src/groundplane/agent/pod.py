"""`python3 -I -m groundplane.agent.pod BASE ORDER`: the agent in a pod, beside the container that the work runs in.

The pipes come first, for the other container turns in circles until they are there; all else is imported later.
"""

from __future__ import annotations

import os
import sys

from groundplane.spi.pod import MAIN, PIPES, control

__all__ = ["MAIN", "main", "make_pipes"]


def make_pipes(base: str) -> dict[str, int]:
    """The pipes, made where they are not there yet and opened so that nobody waits for this process. Raises OSError.

    Those that others write to whenever they like, and the one that is read later, are open both ways: they neither
    end nor block. Of `out` and `err` the end counts.
    """
    folder = control(base)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    opened: dict[str, int] = {}
    for name in PIPES:
        path = f"{folder}/{name}"
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass  # a former agent's, or the pod's own preparation
        way = os.O_RDONLY if name in ("out", "err") else os.O_RDWR
        opened[name] = os.open(path, way | os.O_NONBLOCK | os.O_CLOEXEC)
    return opened


def main() -> int:
    """0: the end was told. 1: it could not even be told. 2: wrong usage."""
    if len(sys.argv) != 3:
        print("usage: python3 -I -m groundplane.agent.pod BASE ORDER", file=sys.stderr)
        return 2
    base, order = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    pipes = make_pipes(base)
    from groundplane.agent.pod_life import live

    return live(base, order, pipes)


if __name__ == "__main__":
    sys.exit(main())
