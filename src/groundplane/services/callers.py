"""Callers whose machine is not this one: their folders are sent here, and nothing of their shell starts anything here.

The owner's requests name folders and programs of this host, for they are his. A stranger's would let him read any file
that the control plane can, and have it start any program to ask for its version.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import shutil
import tarfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from groundplane.folders import MOST_FILES
from groundplane.model.errors import Denied, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.model.requests import Context, PushRequest
from groundplane.services import gate, staging
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform
from groundplane.services.variables import OF_NETWORKS, home_key
from groundplane.spi import files, layout, readers
from groundplane.spi.driver import RunsBeside

T = TypeVar("T")

PREFIX = "upload:"
"""How a request names a folder that was sent here before."""
_OWNER = "owner.json"
_HERE = ("socket", "")
"""Sources of those who need show nothing to be let in: the owner's own socket, and the platform itself."""
_HIS = frozenset({"TZ"}) | OF_NETWORKS
_OF_ITS_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL)
_OTHER_NAMES = "names have to fit below the control plane's own folder, and each is one file's or one folder's"


def is_stranger(actor: Actor) -> bool:
    """Whether this host is not his: what he runs on it has to be kept from it."""
    return actor.kind not in ("owner", "platform") or actor.source not in _HERE


def settled(platform: Platform, actor: Actor, request: T) -> T:
    """The same request, with the folder that it names as it lies here, and for a stranger with this host's own PATH.

    Raises Denied for a stranger who names a path of this host, NotFound for a folder that he has not sent.
    """
    if not is_dataclass(request):
        return request
    found: Any = request
    if isinstance(found, Context):
        return cast("T", _own(found) if is_stranger(actor) else found)
    names = {field.name for field in fields(found)}
    changed: dict[str, Any] = {}
    if "folder" in names and (found.folder or _is_of_project(found)):
        changed["folder"] = _folder(platform, actor, found.folder)
    if "context" in names and is_stranger(actor):
        changed["context"] = _own(found.context)
    for name in ("offline", "out"):
        if name in names and getattr(found, name) is not None and is_stranger(actor):
            raise Denied(
                f"--{name} names a folder of the control plane's own host",
                hint="whoever runs the control plane can do it there",
                code="not_here",
            )
    return cast("T", replace(found, **changed) if changed else found)


def check_confined(platform: Platform, plan: RunPlan) -> None:
    """Raises Denied where a stranger's work would run beside the platform, or his tables be read there, and could not
    be kept from it."""
    for name in sorted(plan.backends):
        driver = platform.driver(name)
        why = driver.unconfined() if isinstance(driver, RunsBeside) else ""
        if why:
            raise Denied(
                f"backend {name!r} runs work beside the control plane, and cannot confine that of strangers: {why}",
                hint="install bubblewrap on its host, or choose another backend with --on (`ground backends list`)",
                code="cannot_confine",
            )
    for step in plan.pipeline.steps:
        tables = staging.converted(step)
        if tables and (why := readers.unconfined()):
            raise Denied(
                f"step {step.name!r} reads {', '.join(tables)} converted, and this host cannot confine what reads the "
                f"tables of strangers: {why}",
                hint="install bubblewrap on the control plane's host, or give the step the file as it is",
                code="cannot_confine",
            )


def admit(platform: Platform, actor: Actor, name: str) -> None:
    """Before anything of a folder is taken. Raises Denied for who has no role anywhere."""
    gate.require(platform, actor, "folder.send", Resource("folder", name))


def receive(platform: Platform, actor: Actor, name: str, packed: Path) -> str:
    """Unpacks a folder of that name that the actor has sent as a tar; how his requests name it.

    Raises Invalid for what is no such tar.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Invalid(f"{name!r} is no name of a folder", hint="name it as its own folder does")
    uid = new_id()
    place = uploads(platform.home) / uid
    fresh = place.with_name(f".{uid}")
    tree = fresh / name
    try:
        tree.mkdir(parents=True, mode=0o700)
        with tarfile.open(packed, "r:", encoding="utf-8", errors="surrogateescape") as archive:
            _unpack(archive, str(tree))
        files.write(fresh / _OWNER, json.dumps({"of": _digest(platform, actor), "name": name}).encode())
        fresh.rename(place)
    except tarfile.TarError as error:
        raise Invalid(f"what was sent is no tar: {error}", hint="`ground` of this version sends one") from None
    except OSError as error:
        if error.errno not in _OF_ITS_NAMES:
            raise
        path = str(error.filename2 or error.filename).removeprefix(f"{fresh}/")
        raise Invalid(f"{path[:100]!r} cannot be written here: {error.strerror}", hint=_OTHER_NAMES) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return PREFIX + uid


def uploads(home: Path) -> Path:
    """Where sent folders lie until the runs that need them have ended."""
    return home / "uploads"


def _is_of_project(request: Any) -> bool:
    """Whether it needs its folder: without a name that would be wherever the control plane was started."""
    return not isinstance(request, PushRequest) or bool(request.spec)


def _own(context: Context) -> Context:
    """Programs are asked in no folder of his: some read there what they are to do."""
    mine = {"PATH": os.pathsep.join(filter(_is_seen, os.environ.get("PATH", os.defpath).split(os.pathsep)))}
    return Context("/", {**mine, **{name: value for name, value in context.variables.items() if name in _HIS}})


def _is_seen(folder: str) -> bool:
    return any(folder == each or folder.startswith(each + "/") for each in layout.PROGRAMS)


def _folder(platform: Platform, actor: Actor, named: str) -> str:
    if not named.startswith(PREFIX):
        if is_stranger(actor):
            raise Denied(
                f"{named} would be a folder of the control plane's own host",
                hint="`ground` with GROUND_URL sends the folder itself; is it older than the control plane?",
                code="not_here",
            )
        return named
    uid = named.removeprefix(PREFIX)
    place = uploads(platform.home) / uid
    try:
        owner = json.loads((place / _OWNER).read_bytes()) if "/" not in uid and not uid.startswith(".") else None
    except (FileNotFoundError, NotADirectoryError, ValueError, OSError):
        owner = None
    if owner is None or owner.get("of") != _digest(platform, actor):
        raise NotFound(f"there is no folder {named!r}", hint="send it again", code="no_upload")
    os.utime(place)  # it is in use: its age, by which garbage is told, begins again
    return str(place / owner["name"])


def _digest(platform: Platform, actor: Actor) -> str:
    """Whose a folder is, without a name on the disk."""
    return hmac.digest(home_key(platform.home), f"uploads {actor.kind} {actor.name}".encode(), "sha256").hex()


def _unpack(archive: tarfile.TarFile, tree: str) -> None:
    """Plain files and folders first, links last: no path leads through a link that the archive itself made."""
    links: list[tuple[str, str]] = []
    for count, entry in enumerate(archive):
        if count > MOST_FILES * 2:
            raise Invalid(f"more than {MOST_FILES} files were sent", hint="name what is not needed in .groundignore")
        inner = _plain(entry.name)
        path = f"{tree}/{inner}" if inner else tree
        if not inner and not entry.isdir():
            raise Invalid(f"{entry.name!r} is the folder itself, and was sent as something else", hint="leave it out")
        if entry.isdir():
            os.makedirs(path, exist_ok=True)  # noqa: PTH103 - names may be no UTF-8, and many
        elif entry.issym():
            links.append((path, entry.linkname))
        elif entry.isreg():
            os.makedirs(path.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
            _write(archive, entry, path)
        else:
            raise Invalid(f"{entry.name!r} is neither a file nor a folder nor a link", hint="leave it out")
    for path, _ in links:  # before there is any link that a folder could be made behind
        os.makedirs(path.rpartition("/")[0], exist_ok=True)  # noqa: PTH103
    for path, target in links:
        try:
            os.symlink(target, path)  # noqa: PTH211
        except FileExistsError:
            raise Invalid(f"two entries were sent for the link {path[len(tree) + 1 :]!r}") from None
    root = os.path.realpath(tree)
    for path, target in links:  # what reads a folder here would follow them
        if not f"{os.path.realpath(path)}/".startswith(f"{root}/"):
            raise Invalid(
                f"the link {path[len(tree) + 1 :]!r} -> {target!r} leaves the folder",
                hint="put the file itself into the project",
                code="link_leaves_project",
            )


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    content = archive.extractfile(entry)
    assert content is not None  # noqa: S101 - it is a regular file's
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o755 if entry.mode & 0o100 else 0o644)
    except FileExistsError:
        raise Invalid(f"two files were sent as {entry.name!r}") from None
    with open(descriptor, "wb") as file:  # noqa: PTH123
        shutil.copyfileobj(content, file, 1 << 20)


def _plain(name: str) -> str:
    """The path in the folder; "" for the folder itself. `tar -C FOLDER -cf - .` writes `./` before each."""
    inner = name.rstrip("/")
    while inner.startswith("./"):
        inner = inner[2:]
    parts = [] if inner == "." else inner.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise Invalid(f"{name!r} is no plain path in the folder", hint="tar -C FOLDER -cf - . sends plain paths")
    return "/".join(parts)
