"""The project's `ground.toml` and `ground.lock`, as `ground env` sends and writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from groundplane.client import context
from groundplane.client.targets import SPEC, text_of
from groundplane.model.errors import Invalid
from groundplane.model.requests import EnvironmentRequest, PushRequest

LOCK = "ground.lock"


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


def write(text: str, here: Path | None = None) -> bool:
    """Writes ground.lock, whole or not at all; whether it is another than before."""
    path = (here or Path.cwd()) / LOCK
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except FileNotFoundError:
        pass
    fresh = path.with_name(f".{LOCK}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return True
