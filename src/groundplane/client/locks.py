"""The project's `ground.toml` and `ground.lock`, as `ground env` sends and writes them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from groundplane.client import context
from groundplane.client.targets import SPEC, text_of
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.requests import EnvironmentRequest, PushRequest

LOCK = "ground.lock"
_WRITABLE = "make the folder writable for you; images that are built already are kept"


def request(
    names: Sequence[str] = (),
    *,
    builder: str | None = None,
    offline: str | None = None,
    out: str | None = None,
    security: bool = False,
    installer: Mapping[str, str] | None = None,
    here: Path | None = None,
) -> EnvironmentRequest:
    """About these environments (all, when none) of the project in the current folder, or in `here`."""
    folder = (here or Path.cwd()).absolute()
    spec, lock = folder / SPEC, folder / LOCK
    if not spec.is_file():
        raise Invalid(f"there is no {SPEC} in {folder}", hint="go to the project's folder")
    return EnvironmentRequest(
        folder=str(folder),
        context=context.caller(),
        spec=text_of(spec),
        lock=text_of(lock) if lock.is_file() else "",
        names=tuple(names),
        builder=builder,
        offline=None if offline is None else str(Path(offline).absolute()),
        out=out,
        security=security,
        installer=dict(installer or {}),
    )


def push_request(name: str, reference: str, here: Path | None = None) -> PushRequest:
    """About an image of that name, or of the environment of that name, where the folder has a project."""
    folder = (here or Path.cwd()).absolute()
    spec, lock = (text_of(path) if path.is_file() else "" for path in (folder / SPEC, folder / LOCK))
    return PushRequest(name, reference, str(folder), spec, lock)


def check_writable(asked: EnvironmentRequest) -> None:
    """Raises Unavailable where ground.lock could not be written in the end: hours of building may lie between."""
    if not os.access(asked.folder, os.W_OK):
        raise Unavailable(f"{LOCK} cannot be written in {asked.folder}", hint=_WRITABLE)


def write(asked: EnvironmentRequest, text: str) -> bool:
    """Puts what came of the request into ground.lock, whole or not at all. False when somebody has written another one
    since it was asked for: nothing is written then, and it is to be asked for again."""
    if text == asked.lock:
        return True
    folder = Path(asked.folder)
    path, fresh = folder / LOCK, folder / f".{LOCK}.{os.getpid()}"
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if (text_of(path) if path.is_file() else "") != asked.lock:
            return False
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", hint=_WRITABLE) from error
    finally:
        fresh.unlink(missing_ok=True)
        os.close(handle)
    return True
