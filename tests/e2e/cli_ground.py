"""Groundplane as a user has it: the command line, a home and a work folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
SETTLED = ("succeeded", "failed", "cancelled", "lost")


class Ground:
    """Calls `ground` in `work`; `close` ends control plane, agent and work."""

    def __init__(self, root: Path, **env: str) -> None:
        self.home, self.work = root / "home", root / "work"
        self.work.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GROUND_", "PYTHON"))}
        self.env = {
            **kept, "GROUND_HOME": str(self.home), "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8", "XDG_CONFIG_HOME": str(root / "config"), **env,
        }  # fmt: skip

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def __call__(
        self, *words: str, code: int | None = 0, cwd: Path | None = None, patience: float = 120, given: bytes = b"",
        **env: str,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """given: its standard input."""
        done = subprocess.run(
            [BIN / "ground", *words], env={**self.env, **env}, cwd=cwd or self.work,
            input=given.decode(errors="surrogateescape"), capture_output=True, timeout=patience, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip
        assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *words: str, code: int | None = 0, patience: float = 120) -> Any:
        return json.loads(self(*words, "--json", code=code, patience=patience).stdout)

    def start(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [BIN / "ground", *words], env={**self.env, **env}, cwd=self.work, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def put_secret(self, name: str, value: str | bytes, *words: str, code: int = 0) -> str:
        """Sets a secret; what is said."""
        given = value if isinstance(value, bytes) else value.encode()
        done = self("secrets", "set", name, *words, given=given, code=code)
        return done.stdout + done.stderr

    def pid(self) -> int:
        return int(self.json("status")["pid"])

    def record(self) -> dict[str, Any]:
        return json.loads((self.home / "run" / "control.json").read_text())

    def close(self) -> None:
        self("down", "--stop", code=None)
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"GROUND_HOME={self.home}".encode() in (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if ours and int(folder.name) != os.getpid():
                try:
                    os.kill(int(folder.name), signal.SIGKILL)
                except ProcessLookupError:
                    pass


def until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """What the condition gives, once it gives something."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"after {seconds:.0f} s still not: {what}")


def alive(pid: int) -> bool:
    """Whether the process runs (one that waits for its parent to notice its end does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
