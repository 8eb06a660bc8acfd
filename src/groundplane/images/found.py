"""The packages that an image says it has: read out of its layers, as what manages them has noted them."""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from groundplane.model.locks import Found
from groundplane.oci.pieces import Pieces

_LARGEST = 64 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_DPKG, _DPKG_PARTS = "var/lib/dpkg/status", "var/lib/dpkg/status.d/"
_APK = "lib/apk/db/installed"
_RELEASE = ("etc/os-release", "usr/lib/os-release")
_METADATA = re.compile(r"(?!usr/lib/python3/dist-packages/).*\.dist-info/METADATA")  # Debian's own are debs already
_DESCRIPTION = re.compile(r"(?!usr/lib/R/).*R/(?:site-)?library/[^/]+/DESCRIPTION")
_FIELD = re.compile(r"^([A-Za-z-]+): *(.*)$", re.MULTILINE)


def notes(layers: Iterable[Iterator[bytes]]) -> dict[str, str]:
    """Name -> text of each file that tells of packages. layers: uncompressed tars, bottom first."""
    found: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(fileobj=Pieces(layer), mode="r|") as source:
            fresh: dict[str, str] = {}
            for member in source:
                name = posixpath.normpath(member.name).lstrip("/")
                folder, _, last = name.rpartition("/")
                if last == _OPAQUE:
                    found = {n: t for n, t in found.items() if not n.startswith(f"{folder}/")}
                elif last.startswith(_WHITEOUT):
                    gone = posixpath.join(folder, last.removeprefix(_WHITEOUT))
                    found = {n: t for n, t in found.items() if n != gone and not n.startswith(f"{gone}/")}
                elif member.isreg() and member.size <= _LARGEST and _tells(name):
                    file = source.extractfile(member)
                    fresh[name] = file.read().decode(errors="replace") if file else ""
            found |= fresh
    return found


def packages(noted: Mapping[str, str]) -> tuple[Found, ...]:
    """All of them, by kind and name."""
    made: set[Found] = set()
    for name, text in noted.items():
        kind = next((kind for tells, kind in _KINDS if tells(name)), None)
        if kind is not None:
            made |= set(_READERS[kind](text))
    return tuple(sorted(made, key=lambda each: (each.kind, each.name, each.version, each.architecture)))


def distribution(noted: Mapping[str, str]) -> str:
    """`debian trixie`, `ubuntu noble`, `alpine 3.22`; "" where the image does not say."""
    text = next((noted[name] for name in _RELEASE if name in noted), "")
    said = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in text.splitlines())}
    release = said.get("VERSION_CODENAME") or said.get("VERSION_ID", "")
    return " ".join(filter(None, (said.get("ID", ""), release)))


def _deb(text: str) -> Iterator[Found]:
    for stanza in text.split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        if "Package" in fields and fields.get("Status", "install ok installed").endswith(" installed"):
            yield Found(fields["Package"], fields.get("Version", ""), "deb", fields.get("Architecture", ""))


def _apk(text: str) -> Iterator[Found]:
    for stanza in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in stanza.splitlines() if line[1:2] == ":")
        if "P" in fields:
            yield Found(fields["P"], fields.get("V", ""), "apk", fields.get("A", ""))


def _python(text: str) -> Iterator[Found]:
    fields = dict(reversed(_FIELD.findall(text.partition("\n\n")[0])))
    if "Name" in fields:
        yield Found(fields["Name"], fields.get("Version", ""), "python")


def _r(text: str) -> Iterator[Found]:
    fields = dict(_FIELD.findall(text))
    if "Package" in fields and "Built" in fields:
        yield Found(fields["Package"], fields.get("Version", ""), "r")


def _tells(name: str) -> bool:
    return name in _RELEASE or any(tells(name) for tells, _ in _KINDS)


_KINDS: Sequence[tuple[Callable[[str], bool], str]] = (
    (lambda name: name == _DPKG or (name.startswith(_DPKG_PARTS) and not name.endswith(".md5sums")), "deb"),
    (lambda name: name == _APK, "apk"),
    (lambda name: _METADATA.fullmatch(name) is not None, "python"),
    (lambda name: _DESCRIPTION.fullmatch(name) is not None, "r"),
)
_READERS: Mapping[str, Callable[[str], Iterator[Found]]] = {"deb": _deb, "apk": _apk, "python": _python, "r": _r}
