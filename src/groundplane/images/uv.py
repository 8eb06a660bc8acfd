"""What uv knows about Python's packages: requirements resolved, its own lock exported, where a wheel lies now. The
indices are those that uv is configured for; no Python is downloaded, and nothing is built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.model.locks import File

_SECONDS = 900
_NEWEST_LIBC = 40  # the newest manylinux_2_N that every uv we work with has a name for
_UNKNOWN = re.compile(r"(\S+) was not found in the package registry")
_NO_WHEEL = re.compile(r"Because (?:all versions of |only )?(\S+?)(?:[=<>!~]\S*)? (?:has|have) no (?:usable )?wheels")
_NOT_BUILT = re.compile(r"Wheels are required for `([^`]+)`")


@dataclass(frozen=True, slots=True)
class Target:
    """What an image's Python is, whatever this host's is. python: `3.13.5`. libc: glibc's minor version, 41 of 2.41.
    machine: `x86_64`."""

    python: str
    libc: int
    machine: str

    @property
    def minor(self) -> str:
        """`3.13`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def platform(self) -> str:
        """As uv calls it."""
        return f"{self.machine}-manylinux_2_{min(self.libc, _NEWEST_LIBC)}"


def resolve(requirements: Sequence[str], target: Target, folder: Path) -> str:
    """A `pylock.toml` with all that they need, of wheels alone. Raises Invalid for what the index cannot give,
    Unavailable when it cannot be asked. folder: where the project's own settings of uv are looked for."""
    return _compiled(requirements, target, folder)


def exported(folder: Path) -> str:
    """The folder's `uv.lock` as a `pylock.toml`, resolved anew in nothing: the project's dependencies, without its
    groups and without itself."""
    options = ("--frozen", "--offline", "--no-default-groups", "--no-emit-workspace", "--format", "pylock.toml")
    _check_members(folder)
    done = _run("export", *options, "--no-header", "--no-config", folder=folder)
    if done.returncode != 0:
        raise _full(done.stderr) or Invalid(
            f"uv.lock cannot be read: {_said(done.stderr)}", hint="write it anew: uv lock", code="unresolvable"
        )
    return done.stdout


def settings(folder: Path) -> str:
    """The project's file that says how uv works: `uv.toml`, or `[tool.uv]` of its `pyproject.toml`; "" for none."""
    if (folder / "uv.toml").is_file():
        return "uv.toml"
    return "[tool.uv] of pyproject.toml" if _tool(folder) else ""


def addresses(files: Sequence[File], target: Target, folder: Path) -> Mapping[str, str]:
    """sha256 -> where the index that uv is configured for has that file now. Raises as `resolve` does."""
    import tomllib

    from packaging.pylock import Pylock

    text = _compiled([f"{file.name}=={file.version}" for file in files], target, folder, "--no-deps")
    found: dict[str, str] = {}
    for package in Pylock.from_dict(tomllib.loads(text)).packages:
        for wheel in package.wheels or ():
            if wheel.url and "sha256" in wheel.hashes:
                found[wheel.hashes["sha256"]] = wheel.url
    return found


def newest(names: Sequence[str], target: Target, folder: Path) -> Mapping[str, str]:
    """The newest version of each that the index has a wheel of for the target; what it does not know is left out."""
    import tomllib

    try:
        text = _compiled(names, target, folder, "--no-deps")
    except Invalid:
        if len(names) < 2:
            return {}
        return {name: version for each in names for name, version in newest([each], target, folder).items()}
    return {package["name"]: package["version"] for package in tomllib.loads(text).get("packages", ())}


def program() -> str:
    """uv's own, as it came with Groundplane."""
    from uv import find_uv_bin

    return find_uv_bin()


def _compiled(requirements: Sequence[str], target: Target, folder: Path, *options: str) -> str:
    done = _run(
        "pip",
        "compile",
        "-",
        *("--python", sys.executable),  # or it would start the one of a `.venv` in the folder, which is anybody's
        *("--python-version", target.python),
        *("--python-platform", target.platform),
        *("--only-binary", ":all:"),
        *("--format", "pylock.toml"),
        "--no-header",
        "--no-annotate",
        *options,
        folder=folder,
        text="".join(f"{each}\n" for each in requirements),
    )
    if done.returncode != 0:
        raise _refused(done.stderr, target)
    return done.stdout


def _tool(folder: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {}).get("uv", {})
    except (OSError, ValueError, AttributeError):  # uv itself says what is wrong with it
        return {}


def _check_members(folder: Path) -> None:
    """Raises Invalid for a workspace that leaves the project's folder: the folder is all that was sent."""
    workspace: Any = _tool(folder).get("workspace", {})
    for member in workspace.get("members", ()) if isinstance(workspace, Mapping) else ():  # pyright: ignore
        if str(member).startswith("/") or ".." in str(member).split("/"):  # pyright: ignore
            raise Invalid(
                f"pyproject.toml: the member {member!r} of the workspace lies outside of the project",
                hint="write a pylock.toml where all of it is: uv export --format pylock.toml -o pylock.toml",
                code="unsupported_source",
            )


def _run(*argv: str, folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable, "NO_COLOR": "1"}
    environment.pop("VIRTUAL_ENV", None)
    try:
        return subprocess.run(
            [program(), *argv, "--quiet"],
            cwd=folder,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(
            f"uv gave no answer in {_SECONDS} s", hint="is the package index reachable?", code="unreachable"
        ) from None


def _refused(said: str, target: Target) -> GroundError:
    text = " ".join(said.split())
    platform = f"Python {target.minor} on {target.platform}"
    if full := _full(said):
        return full
    if unknown := sorted(set(_UNKNOWN.findall(text))):
        return Invalid(
            f"the package index has no {', '.join(unknown)}",
            hint="is the name right? " + INDEX,
            code="unknown_package",
        )
    if "no wheels" in text or "no usable wheels" in text:
        names = sorted({*_NO_WHEEL.findall(text), *_NOT_BUILT.findall(text)})
        return no_wheel(", ".join(names) or "a package", platform, _said(said))
    if "No solution found" in text or "unsatisfiable" in text:
        return Invalid(
            f"these packages cannot be had together for {platform}: {_said(said)}",
            hint="loosen a requirement, or take another version of Python",
            code="unresolvable",
        )
    if re.search(r"[Ff]ailed to (fetch|parse|read)|[Rr]equest failed|error sending request|status code", text):
        return Unavailable(f"the package index cannot be read: {_said(said)}", hint=INDEX, code="unreachable")
    return Invalid(f"uv cannot resolve the packages: {_said(said)}", hint=INDEX, code="unresolvable")


def no_wheel(name: str, platform: str, why: str = "") -> Invalid:
    """The error for a package that would have to be compiled."""
    return Invalid(
        f"{name} has no wheel for {platform}" + (f": {why}" if why else ""),
        hint="take a version that has one, another version of Python, or the Debian suite's own: "
        'system_packages = ["python3-…"]',
        code="no_wheel",
    )


def _full(said: str) -> Unavailable | None:
    if "No space left on device" not in said and "Disk quota exceeded" not in said:
        return None
    return Unavailable("the disk is full: uv could not work", hint="make space there, then try again", code="no_space")


INDEX = "uv's own settings name the index: UV_DEFAULT_INDEX, or uv.toml"


def _said(text: str) -> str:
    """What uv says of the matter, in one line."""
    lines = [re.sub(r"^(error|cause|Because|×|╰─▶)[: ]+", "", line.strip()) for line in text.splitlines()]
    causes = [line for line in lines if line and not line.startswith(("No solution found", "hint", "warning"))]
    return " ".join(causes)[:600] or "no word of why"
