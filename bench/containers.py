"""What an image adds: a script in a container beside `docker run`, and what environments cost that are built."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.figures import Figure, median, ms
from bench.ground import GROUND, Ground, timed

_ROUNDS = 15
_SPEC = '[project]\nname = "bench"\n[environments.sh]\ntoolchain = "shell"\n'


def measure() -> Iterator[Figure]:
    """Nothing where no engine answers, or no image can be built."""
    lacks = [name for name in ("docker", "mmdebstrap") if shutil.which(name) is None]
    if lacks or subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        print(f"containers: not measured: no {', '.join(lacks) or 'engine answers'}", file=sys.stderr)
        return
    with Ground() as ground:
        ground.write("ground.toml", _SPEC)
        ground.write("true.sh", "true\n")
        ground("env", "lock")
        ground("run", "true.sh", "--env", "sh", "--on", "docker")
        shown = subprocess.run(
            [GROUND, "images", "list", "--json"], cwd=ground.work, env=ground.env, capture_output=True, check=True
        )
        image = json.loads(shown.stdout)[0]["name"]
        bare, ours, no_op, plan = list[float](), list[float](), list[float](), list[float]()
        for _ in range(_ROUNDS):  # in turn: what slows one slows the other
            bare.append(timed(["docker", "run", "--rm", "--init", "--network", "none", image, "true"], ground.work))
            ours.append(ground("run", "true.sh", "--env", "sh", "--on", "docker"))
            time.sleep(0.1)  # the container is removed behind the run's back: not in the next one's time
        for _ in range(_ROUNDS):
            no_op.append(ground("env", "build"))
            plan.append(ground("plan", "true.sh", "--env", "sh", "--on", "docker") - ground("plan", "true.sh"))
    ratio = median(ours) / median(bare)
    yield Figure(
        "`ground run true.sh --on docker`, warm", ms(median(ours)), f"{ms(median(bare))} (docker run)", f"{ratio:.2f}",
        "≤ 1.25 of bare", ratio <= 1.25,
    )  # fmt: skip
    yield Figure("`ground env build`, all built", ms(median(no_op)), "", "", "< 300 ms", median(no_op) < 0.3)
    yield Figure(
        "an environment, locked and built, resolved", ms(max(0.0, median(plan))), "", "", "< 20 ms",
        median(plan) < 0.02,
    )  # fmt: skip
