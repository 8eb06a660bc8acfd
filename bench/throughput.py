"""Many short tasks: fan-outs of /bin/true and of fresh Pythons, and steps one after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from bench.figures import Figure, ms
from bench.ground import CORES, Ground, spawn_rate

_SPAWNS = 3090.0  # bare /bin/true a second where the promises were made
_PYTHON = [sys.executable, "-c", "pass"]
_FILES = 200


def fan_out(name: str, command: list[str], count: int) -> str:
    return (
        f'[project]\nname = "{name}"\n[pipelines.{name}.steps.t]\ncommand = {json.dumps(command)}\n'
        f"for_each = {{ i = {json.dumps(list(map(str, range(count))))} }}\n"
    )


def line(count: int) -> str:
    steps = (
        f"[pipelines.line.steps.s{i}]\ncommand = {json.dumps(_PYTHON)}\n" + (f'after = ["s{i - 1}"]\n' if i else "")
        for i in range(count)
    )
    return '[project]\nname = "line"\n' + "".join(steps)


def beside(ground: Ground, folder: str, count: int, argv: list[str], width: int) -> tuple[float, float]:
    """Tasks a second of a run, from the command's start to its end, and of bare loops right before and after it: of
    three such pairs the one with the median ratio. A machine whose speed drifts does so for both of a pair."""
    pairs: list[tuple[float, float]] = []
    before = spawn_rate(argv, count, width)
    for _ in range(3):
        rate = count / ground("run", folder, "--fresh", "--json")
        after = spawn_rate(argv, count, width)
        pairs.append((rate, (before + after) / 2))
        before = after
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[1]


def measure() -> Iterator[Figure]:
    with Ground() as ground:
        for folder, command, count in (
            ("true", ["/bin/true"], 1000),
            ("python400", _PYTHON, 400),
            ("python1000", _PYTHON, 1000),
            ("trueoverlay", ["/bin/true"], 1000),
            ("pythonoverlay", _PYTHON, 400),
        ):
            ground.write(f"{folder}/ground.toml", fan_out(folder, command, count))
            for number in range(_FILES if folder.endswith("overlay") else 0):
                ground.write(f"{folder}/src/{number:03}.txt", f"file {number}\n" * 20)
        ground.write("line/ground.toml", line(100))
        ground("run", "true", "--fresh")
        found = {
            "true": beside(ground, "true", 1000, ["/bin/true"], CORES),
            "python400": beside(ground, "python400", 400, _PYTHON, CORES),
            "python1000": beside(ground, "python1000", 1000, _PYTHON, CORES),
            "trueoverlay": beside(ground, "trueoverlay", 1000, ["/bin/true"], CORES),
            "pythonoverlay": beside(ground, "pythonoverlay", 400, _PYTHON, CORES),
            "line": beside(ground, "line", 100, _PYTHON, 1),
        }

    def figure(name: str, key: str, promise: str = "", holds: bool | None = None) -> Figure:
        rate, bare = found[key]
        return Figure(name, f"{rate:.0f}/s", f"{bare:.0f}/s", f"{rate / bare:.2f}", promise, holds)

    step, alone = (1 / rate for rate in found["line"])
    yield Figure(
        "a linear step, fresh Python (100)", ms(step), ms(alone), f"{step / alone:.1f}",
        f"≤ {ms(max(0.020, alone + 0.010))}", step <= max(0.020, alone + 0.010),
    )  # fmt: skip
    rate, bare = found["true"]
    promised = 1000 / max(1.0, _SPAWNS / bare)
    yield figure("fan-out of 1000 `/bin/true`", "true", f"≥ {promised:.0f}/s", rate >= promised)
    for count in (400, 1000):
        rate, bare = found[f"python{count}"]
        yield figure(f"fan-out of {count} fresh Pythons", f"python{count}", "≥ 0.75 of bare", rate >= 0.75 * bare)
    yield figure(f"1000 `/bin/true` in a folder of {_FILES} files (overlay)", "trueoverlay")
    yield figure(f"400 fresh Pythons in a folder of {_FILES} files (overlay)", "pythonoverlay")
