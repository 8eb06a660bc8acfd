"""Installing an engine: through apt as root on Debian and its kin, into an environment of its own for one from PyPI,
and otherwise by saying what to do."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from groundplane.model.errors import Unavailable
from groundplane.toolchains import catalog

_KEPT_LINES = 15


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """commands: argument lists to run one after the other. Empty: nothing can be done here, and `instructions` says
    what the user can do. folder: what the commands make and what goes when one fails, None for the system's."""

    engine: str
    title: str
    commands: tuple[tuple[str, ...], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    instructions: str = ""
    folder: Path | None = None


def plan(
    name: str,
    home: Path,
    *,
    euid: int | None = None,
    os_release: Mapping[str, str] | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> InstallPlan:
    """What installing the toolchain or engine of that name takes here. home: GROUND_HOME. euid, os_release: those of
    this process and machine unless given. Raises NotFound that lists the valid names."""
    _, engine = catalog.find_engine(name)
    euid = os.geteuid() if euid is None else euid
    os_release = read_os_release() if os_release is None else os_release
    if engine.pip:
        return _own_environment(engine, home, which)
    family = {os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()}
    if not engine.apt or not family & {"debian", "ubuntu"} or which("apt-get") is None:
        return InstallPlan(engine.name, engine.title, instructions=_elsewhere(engine))
    install = ("apt-get", "install", "-y", "--no-install-recommends", *engine.apt)
    if euid != 0:
        return InstallPlan(
            engine.name,
            engine.title,
            instructions=f"run as root: apt-get update && {shlex.join(install)}\nor without root: {engine.elsewhere}",
        )
    return InstallPlan(
        engine.name,
        engine.title,
        commands=(("apt-get", "update"), install),
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )


def execute(planned: InstallPlan, say: Callable[[str], None]) -> None:
    """Runs the plan; `say` gets each line that the programs print, without its newline. Raises Unavailable with the
    last lines when one fails, or with the instructions when there is nothing to run."""
    if not planned.commands:
        raise Unavailable(f"{planned.title} cannot be installed from here", hint=planned.instructions)
    for command in planned.commands:
        say(f"$ {shlex.join(command)}")
        try:
            status, last = _run(command, planned.environment, say)
        except OSError as problem:
            status, last = 127, [str(problem)]
        if status != 0:
            if planned.folder is not None:
                shutil.rmtree(planned.folder, ignore_errors=True)
            raise Unavailable(
                f"installing {planned.title} failed: {shlex.join(command)} ended with status {status}",
                hint="\n".join(last) or "it printed nothing",
            )


def read_os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The keys of os-release(5); empty where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.startswith("#"):
            found[key.strip()] = "".join(shlex.split(value))
    return found


def _run(command: tuple[str, ...], environment: Mapping[str, str], say: Callable[[str], None]) -> tuple[int, list[str]]:
    last: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            say(line.rstrip("\n"))
            last = [*last, line.rstrip("\n")][-_KEPT_LINES:]
    return process.returncode, last


def _own_environment(engine: catalog.KnownEngine, home: Path, which: Callable[[str], str | None]) -> InstallPlan:
    """`<home>/engines/<name>`, whose bin folder the platform looks in after the caller's PATH."""
    folder = home / "engines" / engine.name
    python = str(folder / "bin" / "python3")
    uv = which("uv")
    if importlib.util.find_spec("ensurepip") is not None:
        commands = (
            (sys.executable, "-m", "venv", "--clear", str(folder)),
            (python, "-m", "pip", "install", "--disable-pip-version-check", *engine.pip),
        )
    elif uv:
        commands = (
            (uv, "venv", "--clear", "--python", sys.executable, str(folder)),
            (uv, "pip", "install", "--python", python, *engine.pip),
        )
    else:
        return InstallPlan(
            engine.name,
            engine.title,
            instructions="this Python cannot make virtual environments: install python3-venv, or uv, and try again",
        )
    return InstallPlan(engine.name, engine.title, commands=commands, folder=folder)


def _elsewhere(engine: catalog.KnownEngine) -> str:
    return f"{engine.elsewhere}\nsee {engine.homepage}"
