"""What a lock may say. Whoever sends one is anybody: its words become arguments of programs, paths and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from groundplane.model.errors import GroundError, Invalid
from groundplane.model.locks import Base, Deb, File, Lock, Native, Upstream
from groundplane.oci import reference

ARCHIVES = ("debian", "debian-security")
KINDS = ("pylock", "renv")
_HINT = "take the file from version control, or delete it and write it anew: ground env lock"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
_SUITE = re.compile(r"[a-z][a-z0-9-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEB = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_DEB_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]*")
# No part of a path begins with a dot: none leads upwards.
_DEB_PATH = re.compile(r"(\./)?([A-Za-z0-9+_~:=,@-][A-Za-z0-9+._~:=,@%-]*/)*[A-Za-z0-9][A-Za-z0-9+._~:=,@%-]*\.deb")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~-]*")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[\x21-\x7e]*")
_R_SOURCE = re.compile(
    r"[a-z][a-z0-9+.-]*://[\x21-\x7e]*/src/contrib/(Archive/[A-Za-z0-9.]+/)?[A-Za-z0-9._-]+\.tar\.gz"
)


def check(lock: Lock, where: str) -> None:
    """Raises Invalid that names the key. where: the lock's own place in its file."""
    _match(_SHA256, lock.definition, f"{where}.definition", "no sha256")
    for key in ("toolchain", "engine", "builder"):
        _match(_WORD, getattr(lock, key), f"{where}.{key}", "no name", empty=True)
    if any(character < " " for character in lock.program):
        raise _wrong(f"{where}.program", lock.program, "no path")
    _digests(lock.layers, f"{where}.layers")
    if lock.base is not None:
        _base(lock.base, f"{where}.base")
    _debs(lock.packages, f"{where}.packages")
    if lock.native is not None:
        check_native(lock.native, f"{where}.native")
    if lock.upstream is not None:
        _upstream(lock.upstream, f"{where}.upstream")


def _base(base: Base, where: str) -> None:
    _match(_SUITE, base.suite, f"{where}.suite", "no Debian suite")
    _match(_SUITE, base.architecture, f"{where}.architecture", "no architecture")
    if base.epoch < 0:
        raise _wrong(f"{where}.epoch", str(base.epoch), "no time")
    _debs(base.packages, f"{where}.packages")


def _debs(debs: Iterable[Deb], where: str) -> None:
    for number, deb in enumerate(debs):
        at = f"{where}[{number}]"
        _match(_DEB, deb.name, f"{at}.name", "no name of a Debian package")
        _match(_DEB_VERSION, deb.version, f"{at}.version", "no version of one")
        _match(_DEB, deb.architecture, f"{at}.architecture", "no architecture")
        _match(_SHA256, deb.sha256, f"{at}.sha256", "no sha256")
        _match(_DEB_PATH, deb.path, f"{at}.path", "no path in Debian's archive")
        if deb.archive not in ARCHIVES:
            raise _wrong(f"{at}.archive", deb.archive, f"none of {', '.join(ARCHIVES)}")


def check_native(native: Native, where: str) -> None:
    """The same of a language's own lock, and of what was chosen from one of a project."""
    if native.kind not in KINDS:
        raise _wrong(f"{where}.kind", native.kind, f"none of {', '.join(KINDS)}")
    _match(_SHA256, native.sha256, f"{where}.sha256", "no sha256")
    for number, file in enumerate(native.files):
        _file(file, _R_SOURCE if native.kind == "renv" else _URL, f"{where}.files[{number}]")
    _debs(native.tools, f"{where}.tools")


def _file(file: File, address: re.Pattern[str], where: str) -> None:
    _match(_PACKAGE, file.name, f"{where}.name", "no name of a package")
    _match(_VERSION, file.version, f"{where}.version", "no version")
    _match(_FILE, file.file, f"{where}.file", "no name of a file")
    _match(address, file.url, f"{where}.url", "no address of such a file")
    _match(_SHA256, file.sha256, f"{where}.sha256", "no sha256")


def _upstream(upstream: Upstream, where: str) -> None:
    for key in ("config", "dockerfile", "context"):
        _match(_SHA256, getattr(upstream, key), f"{where}.{key}", "no sha256", empty=True)
    names = list(upstream.bases)
    if upstream.dockerfile:
        path = upstream.reference
        if not path or path.startswith("/") or any(part in ("", "..") for part in path.split("/")) or "\0" in path:
            raise _wrong(f"{where}.reference", path, "no path in the project")
    else:
        names.append(upstream.reference)
    for name in names:
        try:
            reference.parse(name)
        except GroundError:
            raise _wrong(where, name, "no name of an image") from None
    for digest in (upstream.digest, *upstream.bases.values()):
        if digest and not reference.is_digest(digest):
            raise _wrong(where, digest, "no digest")


def _digests(values: Iterable[str], where: str) -> None:
    for number, value in enumerate(values):
        _match(_SHA256, value, f"{where}[{number}]", "no sha256")


def _match(pattern: re.Pattern[str], text: str, where: str, not_: str, *, empty: bool = False) -> None:
    if not pattern.fullmatch(text) and not (empty and not text):
        raise _wrong(where, text, not_)


def _wrong(where: str, text: str, not_: str) -> Invalid:
    return Invalid(f"{where} is {not_}: {text[:100]!r}", hint=_HINT)
