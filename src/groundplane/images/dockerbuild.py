"""A Dockerfile built by a Docker engine, of which nothing stays there but the images that it stands on."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from groundplane.images import context as contexts
from groundplane.images import dockerfile
from groundplane.images.context import Context
from groundplane.images.store import ImageStore
from groundplane.model.errors import GroundError, Invalid, Outside, Unavailable
from groundplane.oci.engine import Engine, Refused
from groundplane.spi.images import Progress

LABEL = "groundplane.build"
OWN = (LABEL, f"LABEL {LABEL}=", "ARG SOURCE_DATE_EPOCH=")
"""What is not the Dockerfile's own in a configuration that comes out."""
_KEPT_LINES = 12
_STEP = re.compile(r"Step \d+/\d+ : (.*)", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # in which the engine writes what came on standard error
_LINE = re.compile(r"(?<=line )\d+")
_SYNTAX = re.compile(
    r"dockerfile parse error|unknown instruction|Dockerfile .* cannot be empty|requires .* argument", re.I
)


@contextmanager
def labelled(engine: Engine, store: ImageStore) -> Generator[tuple[Path, Mapping[str, str]]]:
    """A scratch folder and the label for all that is made in the engine meanwhile, which is deleted at the end; what
    builds of this home have left there that were killed is deleted first."""
    home = owner(store.folder)
    with store.scratch() as scratch:
        label = f"{home}-{scratch.name}"
        _sweep(engine, lambda found: found.startswith(home) and not (scratch.parent / found[len(home) + 1 :]).is_dir())
        try:
            yield scratch, {LABEL: label}
        finally:
            try:
                _sweep(engine, lambda found: found == label)
            except (Refused, Unavailable):
                pass  # the engine is gone or busy: the next build finds the label


def owner(folder: Path) -> str:
    """How the labels of a home begin: several may use one engine."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


def _sweep(engine: Engine, ours: Callable[[str], bool]) -> None:
    """Deletes the containers and images whose label is ours."""
    query = {"all": 1, "filters": json.dumps({"label": [LABEL]})}
    for container in engine.call("GET", "/containers/json", query):
        if ours(container["Labels"][LABEL]):
            _delete(engine, f"/containers/{container['Id']}")
    images = engine.call("GET", "/images/json", query)
    left = [f"/images/{each['Id']}" for each in images if ours(each["Labels"][LABEL]) and not _is_named(each)]
    while left:  # one whose child is still there is refused; what it stands on is not ours, and stays
        refused = [path for path in left if not _delete(engine, path)]
        left = refused if len(refused) < len(left) else []


def _is_named(image: Mapping[str, object]) -> bool:
    """Whether somebody has given it a name since."""
    return any(tag != "<none>:<none>" for tag in image.get("RepoTags") or ())  # pyright: ignore


def _delete(engine: Engine, path: str) -> bool:
    try:
        engine.call("DELETE", path, {"force": 1, "noprune": 1})
    except Refused as error:
        if error.status not in (404, 409):
            raise
        return error.status == 404
    return True


def build(
    engine: Engine,
    context: Context,
    images: Mapping[str, str],
    epoch: int,
    label: Mapping[str, str],
    progress: Progress,
) -> str:
    """The built image's bare id. images: reference -> id of each base. Raises Unavailable `image_build_failed` with
    the step and the last lines, Invalid for what is no Dockerfile."""
    # SOURCE_DATE_EPOCH is what tools ask that want to write the same files on another day; Python's compiler does.
    more = [f"LABEL {LABEL}={label[LABEL]}", f"ARG SOURCE_DATE_EPOCH={epoch}"]
    text = dockerfile.pinned(context.dockerfile, images, more)
    query = {"dockerfile": contexts.SENT_AS, "rm": 1, "forcerm": 1}
    told: deque[str] = deque(maxlen=_KEPT_LINES)
    step = built = ""
    try:
        for event in engine.events("POST", "/build", query, contexts.tar(context, text, epoch)):
            if "aux" in event:
                built = str(event["aux"].get("ID", "")).removeprefix("sha256:")
            for line in _lines(str(event.get("stream", ""))):
                if found := _STEP.fullmatch(line):
                    step = _named(found[1], images)
                    if step not in more:
                        progress(step)
                elif not line.startswith((" --->", "Removing intermediate", "Successfully built")):
                    told.append(line)
                    progress(line)  # also what notices that nobody waits for it any more
    except Refused as error:
        raise _failed(error, step, told, text, more) from error
    if not built:
        raise Outside("the engine ended the build without an image", code="image_build_failed", hint="try again")
    return built


def _named(step: str, images: Mapping[str, str]) -> str:
    """The step as it is written: with names for ids."""
    for name, id_ in images.items():
        step = step.replace(id_, name)
    return step


def _lines(text: str) -> Iterator[str]:
    return filter(None, (_COLOUR.sub("", line).rstrip() for line in text.splitlines()))


def _failed(error: Refused, step: str, told: deque[str], text: str, more: Sequence[str]) -> GroundError:
    said = error.message.strip()
    if "no space left on device" in said or any("No space left on device" in line for line in told):
        return Unavailable(
            f"the disk of the Docker engine is full: {said}",
            hint="make space there (`docker system prune`)",
            code="no_space",
        )
    if not step and _SYNTAX.search(said):
        lines = text.splitlines()
        said = _LINE.sub(lambda hit: str(int(hit[0]) - sum(line in more for line in lines[: int(hit[0])])), said)
        return Invalid(f"the Dockerfile is wrong: {said}", hint="mend it")
    shown = "\n".join([*told, said])
    return Unavailable(
        f"the image could not be built: {step or 'its first step'}: {said}",
        hint=f"its last words:\n{shown}",
        code="image_build_failed",
    )
