"""TARGET, as typed, to what is to be run: a script, a folder with a ground.toml, or a pipeline's name."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from groundplane.model.errors import Invalid

SPEC = "ground.toml"


class Target(NamedTuple):
    """folder: absolute. Exactly one of script (path within the folder, as typed) and spec (the ground.toml's text).

    project: the text of the ground.toml beside a script.
    """

    folder: str
    script: str | None = None
    spec: str | None = None
    pipeline: str | None = None
    project: str | None = None


def resolve(target: str, pipeline: str | None = None, here: Path | None = None) -> Target:
    """Raises Invalid that lists what there is. here: the current folder."""
    here = here or Path.cwd()
    path = here / target
    if path.is_file():
        if path.name == SPEC:
            return Target(str(path.parent), spec=text_of(path), pipeline=pipeline)
        if pipeline is not None:
            raise Invalid(f"{target} is a script: it has no pipeline {pipeline!r}", hint="leave --pipeline away")
        found = _script(target, path, here)
        spec = Path(found.folder) / SPEC
        return found._replace(project=text_of(spec)) if spec.is_file() else found
    if path.is_dir():
        spec = path / SPEC
        if not spec.is_file():
            raise Invalid(
                f"the folder {target} has no {SPEC}", hint=f"name a script in it, or write {target.rstrip('/')}/{SPEC}"
            )
        return Target(_plain(path), spec=text_of(spec), pipeline=pipeline)
    return _pipeline(target, pipeline, here)


def _script(typed: str, path: Path, here: Path) -> Target:
    """A lone script runs beside a copy of its own folder; one of a project beside a copy of the project."""
    inside = _within(path, here)
    if inside is not None and (here / SPEC).is_file():
        return Target(str(here), script=inside if Path(typed).is_absolute() or ".." in Path(typed).parts else typed)
    if typed == f"./{path.name}":
        return Target(str(here), script=typed)
    return Target(_plain(path.parent), script=path.name)


def _within(path: Path, here: Path) -> str | None:
    """The path relative to `here`, or None when it lies elsewhere."""
    try:
        return str(Path(_plain(path)).relative_to(here))
    except ValueError:
        return None


def _plain(path: Path) -> str:
    """Without `.` and `..`. Links are kept where that can be: the user's own name for a folder is the one to show."""
    return str(path.resolve()) if ".." in path.parts else str(path.absolute())


def _pipeline(target: str, pipeline: str | None, here: Path) -> Target:
    spec = here / SPEC
    looks_like_path = "/" in target or "." in target
    if not spec.is_file():
        raise Invalid(f"there is no file or folder {target!r} in {here}", hint=_nearby(target, here, ()))
    text = text_of(spec)
    names = _pipelines(text, spec)
    if target in names:
        if pipeline not in (None, target):
            raise Invalid(f"TARGET names the pipeline {target!r}, --pipeline {pipeline!r}", hint="give one of them")
        return Target(str(here), spec=text, pipeline=target)
    what = "file, folder or pipeline" if not looks_like_path else "file or folder"
    raise Invalid(f"there is no {what} {target!r} in {here}", hint=_nearby(target, here, names))


def _nearby(target: str, here: Path, names: tuple[str, ...]) -> str:
    """What the user may have meant."""
    import difflib

    folder = (here / target).parent
    inside = str(Path(target).parent)
    try:
        files = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError:
        return f"there is no folder {folder}"
    close = difflib.get_close_matches(Path(target).name, [*files, *names], n=3)
    if close:
        return "did you mean " + " or ".join(n if inside == "." or n in names else f"{inside}/{n}" for n in close) + "?"
    if names:
        return f"{SPEC} has the pipelines: {', '.join(names)}"
    if not files:
        return f"{folder} has no files"
    return f"there are: {', '.join(files[:10])}" + (", …" if len(files) > 10 else "")


def _pipelines(text: str, path: Path) -> tuple[str, ...]:
    import tomllib

    try:
        found = tomllib.loads(text).get("pipelines", {})
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not valid TOML: {error}", hint="correct that line") from None
    return tuple(found) if isinstance(found, dict) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8: {error.reason} at byte {error.start}", hint="save it as UTF-8") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
