"""kill -9 at 200 random instants: `python -m bench.kill [INSTANTS] [SEED]`. Prints what was killed, and the seed."""

from __future__ import annotations

import random
import sys
import tempfile
from itertools import cycle
from pathlib import Path

from tests.e2e.killing import STEPS, Killing

_A_ROUND = 10


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ground-kill-", ignore_cleanup_errors=True) as folder:
        killing = Killing(Path(folder), seed)
        instants = rounds = 0
        try:
            for victims in cycle((("control",), ("agent",), ("control", "agent"))):
                if instants >= wanted:
                    break
                instants += killing.round(victims, min(_A_ROUND, wanted - instants))
                rounds += 1
                print(f"{instants} instants, {rounds * STEPS} steps, {dict(killing.kills)} killed", flush=True)
        finally:
            killing.close()
    print(f"none lost, none twice, each line once (seed {seed})")


if __name__ == "__main__":
    main()
