"""What a Dockerfile made, without what only its day had to do with: entries sorted, times clamped, names by number.

Not cured: what a `RUN` writes into files (dates, random numbers, logs of a package manager).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundplane.images.saved import diffs

_XATTR = "SCHILY.xattr."
_PYC_HEAD = 16
_ARGUMENT = re.compile(r"\|(\d+) (.*?)SOURCE_DATE_EPOCH=\d+ (.*)", re.DOTALL)
_KEPT = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "Shell", "OnBuild", "ArgsEscaped",
)  # fmt: skip


def layer(source: Path, target: Path, epoch: int) -> None:
    """Writes the tar anew: what is younger than epoch (seconds) is of that time."""
    with (
        tarfile.open(source, "r:") as given,
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT, errorlevel=2) as out,
    ):
        members = {member.name: member for member in given}
        carriers = _carriers(members)
        for name in sorted(members, key=lambda name: name.encode(errors="surrogateescape")):
            _copy(given, members, carriers, name, out, epoch)


def _carriers(members: Mapping[str, tarfile.TarInfo]) -> dict[str, str]:
    """File -> the first of its names, which is where its content comes; the others become links to that one."""
    groups: dict[str, list[str]] = {}
    for name, member in members.items():
        if member.islnk() and member.linkname in members:
            groups.setdefault(member.linkname, [member.linkname]).append(name)
    return {
        target: min(names, key=lambda name: name.encode(errors="surrogateescape")) for target, names in groups.items()
    }


def _copy(
    given: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    carriers: Mapping[str, str],
    name: str,
    out: tarfile.TarFile,
    epoch: int,
) -> None:
    member = members[name]
    found = tarfile.TarInfo(name + ("/" if member.isdir() else ""))
    found.type, found.linkname = member.type, member.linkname
    found.mode, found.uid, found.gid = member.mode, member.uid, member.gid
    found.mtime = min(int(member.mtime), epoch)
    found.devmajor, found.devminor = member.devmajor, member.devminor
    found.pax_headers = {k: v for k, v in sorted(member.pax_headers.items()) if k.startswith(_XATTR)}
    group = member.linkname if member.islnk() else name
    carrier = carriers.get(group)
    if carrier is not None and name != carrier:
        found.type, found.linkname, found.size = tarfile.LNKTYPE, carrier, 0
        out.addfile(found)
        return
    content = members[group] if carrier is not None else member
    file = given.extractfile(content) if content.isreg() else None
    if file is None:
        out.addfile(found)
        return
    found.type, found.linkname, found.size = tarfile.REGTYPE, "", content.size
    if name.endswith(".pyc") and content.size >= _PYC_HEAD:
        out.addfile(found, io.BytesIO(_pyc(file.read(), epoch)))
    else:
        out.addfile(found, file)


def _pyc(body: bytes, epoch: int) -> bytes:
    """Python's bytecode names its source's time (unless its flags say that it names a hash): it must stay the same."""
    flags, mtime = int.from_bytes(body[4:8], "little"), int.from_bytes(body[8:12], "little")
    if flags or mtime <= epoch:
        return body
    return body[:8] + epoch.to_bytes(4, "little") + body[12:]


def config(raw: bytes, made: Sequence[str], base: Mapping[str, Any], epoch: int, own: Sequence[str]) -> bytes:
    """The configuration of an image whose layers are `made` now (sha256 each). base: that of the image below it, whose
    history stays. own: beginnings of instructions that are not the Dockerfile's, and of labels."""
    body: dict[str, Any] = json.loads(raw)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    given: dict[str, Any] = body.get("config") or {}
    kept = {key: given[key] for key in _KEPT if given.get(key) not in (None, "", [], {})}
    if "Labels" in kept:
        labels = {key: value for key, value in kept["Labels"].items() if not key.startswith(tuple(own))}
        kept = {**kept, "Labels": labels} if labels else {k: v for k, v in kept.items() if k != "Labels"}
    history: list[dict[str, Any]] = body.get("history") or []
    below = len(base.get("history") or ())
    said = [
        {**entry, "created": created, "created_by": _without_argument(str(entry.get("created_by", "")))}
        for entry in history[below:]
        if not _is_own(str(entry.get("created_by", "")), own)
    ]
    found = {key: body[key] for key in ("architecture", "os", "variant", "author") if body.get(key)}
    found |= {
        "created": created,
        "config": kept,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in made]},
        "history": [*history[:below], *said],
    }
    return json.dumps(found, sort_keys=True, separators=(",", ":")).encode()


def base_of(config: Mapping[str, Any], bases: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of these configurations the one whose layers are the lower part of the image; {} when it stands on none."""
    whole = diffs(config)
    fitting = [base for base in bases if diffs(base) and diffs(base) == whole[: len(diffs(base))]]
    return max(fitting, key=lambda base: len(diffs(base)), default=dict[str, Any]())


def _without_argument(created_by: str) -> str:
    """`|1 SOURCE_DATE_EPOCH=0 /bin/sh -c true` without what the Dockerfile does not say."""
    hit = _ARGUMENT.fullmatch(created_by)
    if hit is None:
        return created_by
    others = int(hit[1]) - 1
    return (f"|{others} {hit[2]}" if others else "") + hit[3]


def _is_own(created_by: str, own: Sequence[str]) -> bool:
    _, nop, rest = created_by.partition("#(nop) ")
    return bool(nop) and any(rest.strip().startswith(each) for each in own)
