"""What callers send. Apart from documents.py, because every command makes one of these before it has anything to show.

Times are RFC 3339 UTC text, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Context:
    """What the caller's shell would start things with: current folder and the variables that travel."""

    folder: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `ground run` sends. Exactly one of `script` (path within `folder`, as typed) and `spec` leads.

    target: what the user typed, for messages. folder: absolute path of the project folder. spec: the text of its
    ground.toml when the target is a pipeline. project: the same when the target is a script beside one.
    environment: `-e` values. arguments: what stands after `--`. runs_in: name of an environment.
    """

    target: str
    folder: str
    context: Context
    script: str | None = None
    spec: str | None = None
    pipeline: str | None = None
    toolchain: str | None = None
    arguments: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    backend: str | None = None
    runs_in: str | None = None
    project: str | None = None
    cpus: float | None = None
    memory: int | None = None
    timeout: float | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class RerunRequest:
    """A new run of an old one's exact snapshot and plan. failed: keep what succeeded, run the rest."""

    id: str
    context: Context
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    failed: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentRequest:
    """What `ground env` sends: the project folder with the texts of its ground.toml and ground.lock ("": none yet).

    names: environments, all when empty. offline, out: folders, absolute or within the project's.
    """

    folder: str
    context: Context
    spec: str
    lock: str = ""
    names: tuple[str, ...] = ()
    builder: str | None = None
    offline: str | None = None
    out: str | None = None
    security: bool = False
    installer: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What `ground images push` sends. name: an environment's of the project, else an image's. reference: registry,
    repository and tag. folder, spec, lock: the project's, as in EnvironmentRequest; "" where there is none."""

    name: str
    reference: str
    folder: str = ""
    spec: str = ""
    lock: str = ""
