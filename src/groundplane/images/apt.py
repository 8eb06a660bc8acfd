"""What a Debian suite has, and what asking for packages brings along: apt with a world of its own."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundplane.images.disk import full
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Deb

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRRORS = {
    "debian": ("GROUND_DEBIAN_MIRROR", "http://deb.debian.org/debian"),
    "debian-security": ("GROUND_DEBIAN_SECURITY_MIRROR", "http://deb.debian.org/debian-security"),
}
_ROLLING = ("sid", "unstable")
_SECONDS = 900
_UNREACHABLE = "is the mirror reachable? GROUND_DEBIAN_MIRROR and GROUND_DEBIAN_SECURITY_MIRROR name others"
_EXPIRED = (
    "the mirror has not been updated for long, or this machine's clock is ahead; GROUND_DEBIAN_MIRROR names another "
    "one, GROUND_DEBIAN_EXPIRED=accept takes what this one has (it may also be that somebody holds back its updates)"
)
_INSTALLED = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) ", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?")
_FIELD = re.compile(r"^(Package|Version|Architecture|Filename|Size|SHA256): (.*)$", re.MULTILINE)


def mirror(archive: str) -> str:
    """The address of the `debian` or `debian-security` archive; "" for one that this site does not have."""
    variable, default = _MIRRORS[archive]
    return os.environ.get(variable, default).rstrip("/")


@dataclass(frozen=True, slots=True)
class _Source:
    archive: str
    suite: str


class Apt:
    """A suite as the mirrors have it now. Nothing of this host's own apt counts, and nothing of it is changed."""

    def __init__(self, folder: Path, suite: str, architecture: str) -> None:
        if shutil.which("apt-get") is None:
            raise Unavailable(
                "this machine has no apt to read Debian's archives with",
                hint="lock on Debian or Ubuntu; building needs only mmdebstrap and a pool",
                code="no_builder",
            )
        self.suite = suite
        self._folder = folder
        self._sources = _sources(suite)
        for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        keyring = os.environ.get("GROUND_DEBIAN_KEYRING", KEYRING)
        (folder / "sources.list").write_text(
            "".join(f"deb [signed-by={keyring}] {mirror(s.archive)} {s.suite} main\n" for s in self._sources)
        )
        settings = {
            "Dir": folder,
            "Dir::Etc": "etc",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Parts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Lists": "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": "cache",
            "APT::Architecture": architecture,
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "APT::Sandbox::User": "root",
        }
        if os.environ.get("GROUND_DEBIAN_EXPIRED") == "accept":
            settings["Acquire::Check-Valid-Until"] = "false"
        lines = [f'{name} "{value}";\n' for name, value in settings.items()]
        (folder / "apt.conf").write_text("".join([*lines, f'APT::Architectures {{"{architecture}";}};\n']))

    def update(self) -> None:
        """Fetches the indices; their signatures are checked."""
        done = self._run("apt-get", "update", "-qq")
        if "No space left on device" in done.stderr:
            raise full(self._folder)
        if done.returncode != 0 or "Err:" in done.stdout or "W: Failed" in done.stderr:
            said = _last(done.stderr) or _last(done.stdout)
            raise Unavailable(
                f"the indices of {self.suite} cannot be fetched: {said}",
                hint=_EXPIRED if "is expired" in said else _UNREACHABLE,
                code="unreachable",
            )

    def resolve(self, wanted: Sequence[str]) -> list[Deb]:
        """The essential packages and these with all that they need, by name. Raises Invalid for what is not there."""
        for name in wanted:
            if not _NAME.fullmatch(name):  # to apt it would be a file, or a pattern of names
                raise Invalid(
                    f"{name!r} is no name of a Debian package",
                    hint="write it like libxml2-dev, or with a version: curl=8.14.1-2",
                    code="unknown_package",
                )
        # apt counts itself as essential, even where it is told to leave itself out; work in an image has no use for it.
        done = self._run(
            "apt-get",
            "install",
            "-s",
            "-qq",
            "--allow-change-held-packages",
            "?and(?essential,?not(?exact-name(apt)))",
            *wanted,
        )
        if done.returncode != 0:
            raise self._unknown(done.stderr)
        return self._described(_INSTALLED.findall(done.stdout))

    def version(self, name: str) -> str:
        """What the suite has of a package now; "" for nothing."""
        done = self._run("apt-cache", "show", "--no-all-versions", name)
        return dict(_FIELD.findall(done.stdout)).get("Version", "")

    def index(self, archive: str) -> str:
        """The Packages files of an archive as text, one after the other."""
        suites = [source.suite for source in self._sources if source.archive == archive]
        paths = [
            p for suite in suites for p in sorted((self._folder / "lists").glob(f"*_dists_{suite}_main_*_Packages"))
        ]
        return "".join(path.read_text(encoding="utf-8") for path in paths)

    def _described(self, installed: Iterable[tuple[str, str]]) -> list[Deb]:
        names = [f"{name}={version}" for name, version in installed]
        done = self._run("apt-cache", "show", *names)
        stanzas = [dict(_FIELD.findall(text)) for text in done.stdout.split("\n\n") if text.strip()]
        known = {(each["Package"], each["Version"]): each for each in stanzas}
        in_security = set(re.findall(r"^Filename: (.*)$", self.index("debian-security"), re.MULTILINE))
        found: list[Deb] = []
        for name, version in sorted(set(installed)):
            each = known[name.partition(":")[0], version]
            archive = "debian-security" if each["Filename"] in in_security else "debian"
            found.append(
                Deb(
                    name=each["Package"],
                    version=version,
                    architecture=each["Architecture"],
                    sha256=each["SHA256"],
                    size=int(each["Size"]),
                    path=each["Filename"],
                    archive=archive,
                )
            )
        return found

    def _unknown(self, said: str) -> Invalid:
        missing = re.findall(
            r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate", said
        )
        names: list[str] = [first or second for first, second in missing]
        if not names:
            return Invalid(
                f"{self.suite} cannot install these packages together: {_last(said)}",
                hint="leave one of them out, or take another suite's version of the toolchain",
                code="unresolvable",
            )
        known: list[str] = self._run("apt-cache", "pkgnames").stdout.split()
        near = [close for name in names for close in difflib.get_close_matches(name, known, n=2)]
        return Invalid(
            f"{self.suite} has no package {', '.join(names)}",
            hint=f"did you mean {' or '.join(near)}?" if near else "`apt-cache search` on such a system finds names",
            code="unknown_package",
        )

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False, errors="replace"
        )


def _sources(suite: str) -> list[_Source]:
    if suite in _ROLLING or not mirror("debian-security"):
        return [_Source("debian", suite)]
    return [
        _Source("debian", suite),
        _Source("debian", f"{suite}-updates"),
        _Source("debian-security", f"{suite}-security"),
    ]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next(
        (line.removeprefix("E: ") for line in reversed(lines) if line.startswith("E: ")), lines[-1] if lines else ""
    )
