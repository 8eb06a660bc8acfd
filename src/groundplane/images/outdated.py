"""What of locked packages has moved on, by the indices that the last lock left behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundplane.images import languages
from groundplane.images.apt import Apt
from groundplane.images.versions import newer
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Lock
from groundplane.spi.images import Progress

_FIELD = re.compile(r"^(Package|Version): (.*)$", re.MULTILINE)


def keep_index(folder: Path, name: str, text: str) -> None:
    """Keeps name and version of each package of an archive (`trixie`, `trixie-security`)."""
    path = folder / "indices" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{package} {version}\n" for package, version in _packages(text)))
    fresh.replace(path)


def rows(locks: Sequence[Lock], folder: Path, *, security: bool, progress: Progress) -> list[dict[str, Any]]:
    """environment package kind locked available security, of each package that its suite or its language's index has
    newer. security: Debian's alone, by the security index as it was at the last lock, without a network; else by the
    indices as they are now."""
    suites = sorted({lock.base.suite for lock in locks if lock.base})
    fixed = {suite: _kept(folder, f"{suite}-security") for suite in suites}
    latest: dict[str, dict[str, str]] = {}
    for suite in suites:
        latest[suite] = dict(fixed[suite]) if security else _now(folder, suite, locks, progress)
    found: list[dict[str, Any]] = []
    for lock in locks:
        if lock.base is None:
            continue
        known, fixes = latest[lock.base.suite], fixed[lock.base.suite]
        for deb in (*lock.base.packages, *lock.packages):
            available = known.get(deb.name, "")
            if available and newer(available, deb.version):
                found.append(
                    {
                        "environment": lock.name,
                        "package": deb.name,
                        "kind": "deb",
                        "locked": deb.version,
                        "available": available,
                        "security": deb.name in fixes and newer(fixes[deb.name], deb.version),
                    }
                )
        for package, locked, available in () if security else languages.outdated(lock, progress):
            kind = {"pylock": "python", "renv": "r"}[lock.native.kind] if lock.native else ""
            row = {"environment": lock.name, "package": package, "kind": kind, "locked": locked}
            found.append({**row, "available": available, "security": False})
    return found


def _now(folder: Path, suite: str, locks: Sequence[Lock], progress: Progress) -> dict[str, str]:
    import tempfile

    architecture = next(lock.base.architecture for lock in locks if lock.base and lock.base.suite == suite)
    progress(f"fetching the indices of {suite}")
    with tempfile.TemporaryDirectory() as scratch:
        apt = Apt(Path(scratch) / "apt", suite, architecture)
        apt.update()
        for archive, name in (("debian", suite), ("debian-security", f"{suite}-security")):
            if text := apt.index(archive):
                keep_index(folder, name, text)
    found = _kept(folder, suite)
    for name, version in _kept(folder, f"{suite}-security", needed=False).items():
        if name not in found or newer(version, found[name]):
            found[name] = version
    return found


def _kept(folder: Path, name: str, *, needed: bool = True) -> dict[str, str]:
    """Package -> the newest version that the index has."""
    try:
        text = (folder / "indices" / f"{name}.txt").read_text()
    except FileNotFoundError:
        if needed and not name.startswith(("sid", "unstable")):
            raise Unavailable(f"the index of {name} is not here", hint="`ground env lock` fetches it") from None
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        package, _, version = line.partition(" ")
        if package not in found or newer(version, found[package]):
            found[package] = version
    return found


def _packages(text: str) -> list[tuple[str, str]]:
    stanzas = (dict(_FIELD.findall(stanza)) for stanza in text.split("\n\n"))
    return [(each["Package"], each["Version"]) for each in stanzas if "Package" in each and "Version" in each]
