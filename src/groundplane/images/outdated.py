"""What of locked packages has moved on, by the indices that the last lock left behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groundplane.images import languages
from groundplane.images.apt import Apt
from groundplane.images.downloads import Downloads
from groundplane.images.store import ImageStore
from groundplane.images.versions import newer
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Deb, Found, Lock
from groundplane.spi.images import Progress

_FIELD = re.compile(r"^(Package|Version): (.*)$", re.MULTILINE)


def keep_indices(store: ImageStore, apt: Apt, suite: str) -> None:
    """Keeps name and version of each package of a suite's archives (`trixie`, `trixie-security`)."""
    for archive, name in (("debian", suite), ("debian-security", f"{suite}-security")):
        if text := apt.index(archive):
            body = "".join(f"{package} {version}\n" for package, version in _packages(text))
            store.put(_index(store, name), body.encode())


def rows(
    locks: Sequence[Lock], store: ImageStore, downloads: Downloads, *, security: bool, progress: Progress
) -> list[dict[str, Any]]:
    """environment package kind locked available security, of each package that its suite or its language's index has
    newer. security: Debian's alone, by the security index as it was at the last lock, without a network (an image of
    somebody else may be of a suite that was never locked: its index is fetched once); else by the indices as they are
    now."""
    suites = sorted({lock.suite for lock in locks if lock.suite})
    latest: dict[str, dict[str, str]] = {}
    fixed: dict[str, dict[str, str]] = {}
    for suite in suites:
        foreign = not any(lock.base and lock.suite == suite for lock in locks)
        if not security or (foreign and not _index(store, f"{suite}-security").is_file()):
            latest[suite] = _now(store, suite, locks, progress)
        fixed[suite] = _kept(store, f"{suite}-security")
        if security:
            latest[suite] = fixed[suite]
    found: list[dict[str, Any]] = []
    for lock in locks:
        known, fixes = latest.get(lock.suite, {}), fixed.get(lock.suite, {})
        for deb in _debs(lock):
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
        with store.scratch() as scratch:
            moved = [] if security else languages.outdated(lock, downloads, scratch, progress)
        for package, locked, available in moved:
            kind = {"pylock": "python", "renv": "r"}[lock.native.kind] if lock.native else ""
            row = {"environment": lock.name, "package": package, "kind": kind, "locked": locked}
            found.append({**row, "available": available, "security": False})
    return found


def _debs(lock: Lock) -> list[Deb | Found]:
    base = lock.base.packages if lock.base else ()
    return [*base, *lock.packages, *(each for each in lock.found if each.kind == "deb")]


def _now(store: ImageStore, suite: str, locks: Sequence[Lock], progress: Progress) -> dict[str, str]:
    import tempfile

    architectures = (deb.architecture for lock in locks if lock.suite == suite for deb in _debs(lock))
    architecture = next((each for each in architectures if each not in ("", "all")), "amd64")
    progress(f"fetching the indices of {suite}")
    with tempfile.TemporaryDirectory() as scratch:
        apt = Apt(Path(scratch) / "apt", suite, architecture)
        apt.update()
        keep_indices(store, apt, suite)
    found = _kept(store, suite)
    for name, version in _kept(store, f"{suite}-security", needed=False).items():
        if name not in found or newer(version, found[name]):
            found[name] = version
    return found


def _kept(store: ImageStore, name: str, *, needed: bool = True) -> dict[str, str]:
    """Package -> the newest version that the index has."""
    try:
        text = _index(store, name).read_text()
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


def _index(store: ImageStore, name: str) -> Path:
    return store.folder / "indices" / f"{name}.txt"


def _packages(text: str) -> list[tuple[str, str]]:
    stanzas = (dict(_FIELD.findall(stanza)) for stanza in text.split("\n\n"))
    return [(each["Package"], each["Version"]) for each in stanzas if "Package" in each and "Version" in each]
