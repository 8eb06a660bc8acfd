"""A private Groundplane to measure: its own home and work folder, ended and deleted at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

GROUND = str(Path(sys.executable).with_name("ground"))
CORES = len(os.sched_getaffinity(0))
BARE_PYTHON = 0.011
"""Seconds of a bare Python where the promises were made: on a slower machine they are scaled."""


class Ground:
    """Calls `ground` in `work`."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ground-bench-"))
        self.home, self.work = self.root / "home", self.root / "work"
        self.work.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GROUND_", "PYTHONDONTWRITE", "PYTHONUNBUF"))}
        # `python` is then this one, not a version manager's script that looks for one first.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**kept, "GROUND_HOME": str(self.home), "PATH": path}

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self("down", "--stop")
        shutil.rmtree(self.root, ignore_errors=True)

    def write(self, name: str, text: str) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def __call__(self, *words: str) -> float:
        """Seconds that the command took; an error when it failed."""
        return timed([GROUND, *words], self.work, self.env)


def timed(argv: list[str], folder: Path, env: dict[str, str] | None = None) -> float:
    """Seconds of one process from spawn to end, its output read as a pipe's reader would."""
    started = time.monotonic()
    done = subprocess.run(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took = time.monotonic() - started
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return took


def spawn_rate(argv: list[str], count: int, width: int) -> float:
    """Processes a second of a loop of posix_spawn and wait with `width` in flight: the limit."""
    started, running, left = time.monotonic(), 0, count
    while left or running:
        while left and running < width:
            os.posix_spawn(argv[0], argv, os.environ)
            left, running = left - 1, running + 1
        os.wait()
        running -= 1
    return count / (time.monotonic() - started)
