"""Where things lie under GROUND_HOME. Pure paths: control plane and agent meet in these folders."""

from __future__ import annotations

import os
from pathlib import Path

PROGRAMS = ("/usr", "/bin", "/sbin", "/opt")
"""Where programs lie that strangers' work sees too, besides the home's own engines."""
_SOCKET_PATH_LIMIT = 100  # of 108 bytes that the kernel takes


def blob(home: Path, sha256: str) -> Path:
    """The file with that content, mode 0444."""
    return home / "blobs" / "sha256" / sha256[:2] / sha256


def incoming(home: Path) -> Path:
    """Where files are written before they are renamed to their blob's path: same file system, deleted at start."""
    return home / "blobs" / "incoming"


def manifest(home: Path, digest: str) -> Path:
    """The snapshot's list of files (spi/snapshots.py)."""
    return home / "snapshots" / f"{digest}.json"


def layer(home: Path, digest: str) -> Path:
    """The snapshot as a read-only tree for overlays; made by the agent when first needed."""
    return home / "snapshots" / digest


def attempt(home: Path, attempt_id: str) -> Path:
    """The folder of one attempt; deleted by cleanup."""
    return home / "work" / attempt_id


def tree(home: Path, attempt_id: str) -> Path:
    """The attempt's working copy: the work's current folder."""
    return attempt(home, attempt_id) / "tree"


def support(home: Path, attempt_id: str) -> Path:
    """What the work needs beside its working copy: generated files, its TMPDIR."""
    return attempt(home, attempt_id) / "support"


def verdict(home: Path, attempt_id: str) -> Path:
    """Where a proxy says how the work ended that it stands for: out of the work's own sight."""
    return attempt(home, attempt_id) / "verdict.json"


def hosts(home: Path) -> Path:
    """The `/etc/hosts` of containers without a network."""
    return home / "hosts"


def segments(home: Path, run: str) -> Path:
    """The folder of a run's log segments, `<writer>.seg` each."""
    return home / "logs" / run


def runtime(home: Path) -> Path:
    """A folder of mode 0700 for sockets; outside the home when its path is too long for a socket."""
    inside = home / "run"
    if len(os.fsencode(inside / "control.sock")) <= _SOCKET_PATH_LIMIT:
        return inside
    import hashlib  # together 12 ms, and every command comes through here
    import tempfile

    name = "ground-" + hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(base) / f"{name}-{os.getuid()}"


def make_runtime(home: Path) -> Path:
    """The same, made if need be. Raises PermissionError when somebody else owns it or can look into it."""
    folder = runtime(home)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # or `parents` would make it readable by all
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder


def control_socket(home: Path) -> Path:
    """The control plane's."""
    return runtime(home) / "control.sock"


def agent_socket(home: Path) -> Path:
    """The agent's."""
    return runtime(home) / "agent.sock"
