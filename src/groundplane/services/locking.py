"""Environments from `ground.toml` to locks to images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundplane.model.environments import Environment
from groundplane.model.errors import GroundError, Invalid, NotFound, Unavailable
from groundplane.model.locks import Lock
from groundplane.model.requests import EnvironmentRequest
from groundplane.services import audit, callers, environments, gate, shelf, spec, visibility
from groundplane.services.access import Actor
from groundplane.services.environments import LOCK_FILE
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso
from groundplane.services.spec.problems import listed, meant
from groundplane.spi.images import Image, Progress

SBOM, PROVENANCE = "sbom", "provenance"
_FIRST = 'add one: [environments.NAME] with toolchain = "r@4.5"'


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read. wanted: the environments that it names, all when none. locks: what ground.lock holds of
    environments that ground.toml has. everything: none was named."""

    folder: Path
    project: str
    wanted: tuple[Environment, ...]
    locks: Mapping[str, Lock]
    everything: bool = False

    def workable(self, progress: Progress, builder: str | None = None) -> tuple[Environment, ...]:
        """Those wanted. A licensed engine that nobody has attested is left out, and told, unless it was named: there
        is nothing to work on, and it must not hold up all others."""
        found: list[Environment] = []
        for environment in self.wanted:
            idle = self.everything and environment.name not in self.locks and builder != "docker"
            with _naming(environment):
                idle = idle and environments.licensed(environment)
            if idle:
                progress(
                    f"{environment.name} is left out, for its engine needs a licence: `ground env attest "
                    f"{environment.name} --installer FILE` notes what is installed here"
                )
            else:
                found.append(environment)
        return tuple(found)

    def definition(self, environment: Environment) -> str:
        """See `environments.definition`."""
        with _naming(environment):
            return environments.definition(environment, digests_in(self.folder), self.folder)

    def lock(self, environment: Environment) -> Lock:
        """Its part of ground.lock. Raises NotFound when there is none, Invalid when it is of another definition."""
        found = self.locks.get(environment.name)
        if found is None:
            way = "attest NAME --installer FILE" if environments.licensed(environment) else "lock NAME"
            raise NotFound(
                f"{LOCK_FILE} has no environment {environment.name!r}",
                hint=f"ground env {way.replace('NAME', environment.name)}",
            )
        environments.check_fresh(found, self.definition(environment))
        return found


def read(request: EnvironmentRequest) -> Asked:
    """Raises Invalid and NotFound for files that are wrong and names that are unknown."""
    project = spec.parse(request.spec)
    known = project.environments
    if not known:
        raise Invalid("ground.toml has no environment", hint=_FIRST)
    for name in request.names:
        if name not in known:
            raise NotFound(
                f"ground.toml has no environment {name!r}{meant(name, known)}",
                hint=f"its environments: {listed(known)}",
            )
    locks: Mapping[str, Lock] = environments.read(request.lock) if request.lock else {}
    return Asked(
        folder=Path(request.folder),
        project=project.name,
        wanted=tuple(known[name] for name in request.names or known),
        locks={name: lock for name, lock in locks.items() if name in known},
        everything=not request.names,
    )


def lock(platform: Platform, actor: Actor, request: EnvironmentRequest, progress: Progress) -> dict[str, Any]:
    """Resolves, builds and probes. lock: the new text of ground.lock. changed: names of those that are other now."""
    asked = read(request)
    on = visibility.of_project(platform, "environment", asked.project)
    gate.require(platform, actor, "environment.lock", on)
    wanted = asked.workable(progress, request.builder)
    for environment in wanted:
        _check(asked, environment, request.builder)
    stranger = callers.is_stranger(actor)
    made: list[Lock] = []
    for environment in wanted:
        folder = audit.Private(request.folder)
        with gate.change(platform, actor, "environment.lock", environment.name, on, folder=folder):
            pass
        say = _named(environment.name, progress)
        made.append(_locked(platform, asked, environment, request.builder, say, stranger=stranger))
    return {
        "lock": written(asked, made),
        "changed": [each.name for each in made if each != asked.locks.get(each.name)],
        "environments": [row(platform, each) for each in made],
    }


def build(platform: Platform, actor: Actor, request: EnvironmentRequest, progress: Progress) -> dict[str, Any]:
    """The images of the locks. What has no lock yet, or one of another builder than asked for, is locked first."""
    asked = read(request)
    on = visibility.of_project(platform, "environment", asked.project)
    gate.require(platform, actor, "environment.build", on)
    pool = _pool(request)
    wanted = asked.workable(progress, request.builder)
    unlocked = {each.name for each in wanted if pool is None and _needs_lock(asked, each, request.builder)}
    for environment in wanted:
        if environment.name in unlocked:
            _check(asked, environment, request.builder)
        else:
            asked.lock(environment)
    stranger = callers.is_stranger(actor)
    fresh: list[Lock] = []
    rows: list[dict[str, Any]] = []
    for environment in wanted:
        say = _named(environment.name, progress)
        if environment.name in unlocked:
            known = _locked(platform, asked, environment, request.builder, say, stranger=stranger)
            fresh.append(known)
        else:
            known = asked.lock(environment)
        built = not known.attested and shelf.built(platform.home, known) is None
        if built:
            with gate.change(platform, actor, "environment.build", environment.name, on, recipe=known.recipe):
                pass
        if not known.attested:
            with _naming(environment):
                image_of(platform, known, say, pool, asked.folder, stranger=stranger)
        rows.append({**row(platform, known), "built": built or known in fresh})
    return {"lock": written(asked, fresh) if fresh else request.lock, "environments": rows}


def pool(platform: Platform, actor: Actor, request: EnvironmentRequest, progress: Progress) -> dict[str, Any]:
    """Every file that the builds need, put into a folder; files: how many."""
    asked = read(request)
    gate.require(platform, actor, "environment.pool", Resource("environment", asked.project))
    if not request.out:
        raise Invalid("a pool needs a folder", hint="ground env pool -o DIR")
    folder = Path(request.folder) / request.out
    folder.mkdir(parents=True, exist_ok=True)
    stranger = callers.is_stranger(actor)
    files: set[str] = set()
    for environment in asked.workable(progress):
        found = asked.lock(environment)
        with gate.change(platform, actor, "environment.pool", environment.name, folder=audit.Private(str(folder))):
            pass
        if not found.attested:
            builder = shelf.builder(platform.home, found.builder, asked.folder, stranger=stranger)
            with _naming(environment):
                files |= builder.pool(found, folder, _named(environment.name, progress))
    return {"folder": str(folder), "files": len(files)}


def image_of(
    platform: Platform,
    lock: Lock,
    progress: Progress,
    pool: Path | None = None,
    folder: Path | None = None,
    *,
    stranger: bool,
) -> Image:
    """The lock's image with its documents: at once when it is built. folder: the project's, for its Dockerfile.
    stranger: whether it is somebody whose host this is not who needs it."""
    found = shelf.built(platform.home, lock)
    if found is None:
        found = shelf.builder(platform.home, lock.builder, folder, stranger=stranger).build(lock, progress, pool)
    _document(platform, lock, found)
    return found


def written(asked: Asked, made: Iterable[Lock]) -> str:
    """The text of ground.lock with these in it. An environment that ground.toml has no more has left it."""
    return _text({**asked.locks, **{each.name: each for each in made}}.values())


def row(platform: Platform, found: Lock) -> dict[str, Any]:
    """A locked environment as `--json` shows it, but for its packages; image_digest is None when it is not built."""
    image = None if found.attested else shelf.built(platform.home, found)
    return {
        "name": found.name,
        "toolchain": found.toolchain,
        "version": found.version,
        "engine": found.engine,
        "builder": found.builder,
        "upstream": found.upstream.reference if found.upstream else None,
        "lock_sha256": found.sha256,
        "image_digest": f"sha256:{image.manifest}" if image else None,
        "layers": [f"sha256:{layer.diff}" for layer in image.layers] if image else [],
        "size": image.size if image else None,
        "provenance": str(document(platform, found, image, PROVENANCE)) if image else None,
        "built_at": iso(image.built_at) if image else None,
    }


def document(platform: Platform, lock: Lock, image: Image, kind: str) -> Path:
    """Where the image's SBOM or provenance lies: each lock that leads to the image has its own."""
    return shelf.store(platform.home).document(image, f"{lock.sha256}.{kind}.json")


def _locked(
    platform: Platform,
    asked: Asked,
    environment: Environment,
    builder: str | None,
    progress: Progress,
    *,
    stranger: bool,
) -> Lock:
    old, wanted = asked.locks.get(environment.name), asked.definition(environment)
    if old is not None and old.attested and old.definition == wanted:
        return old
    with _naming(environment):
        return resolve(platform, environment, asked.folder, wanted, builder, progress, stranger=stranger)


def _needs_lock(asked: Asked, environment: Environment, builder: str | None) -> bool:
    """Whether it has no lock yet, or one of another builder than asked for."""
    known = asked.locks.get(environment.name)
    return known is None or (builder not in (None, known.builder) and not known.attested)


def _check(asked: Asked, environment: Environment, builder: str | None) -> None:
    """Raises for what no builder could make, before hours have gone into the others."""
    known = asked.locks.get(environment.name)
    if known is None or not known.attested:
        with _naming(environment):
            environments.recipe(environment, asked.folder, builder)


@contextmanager
def _naming(environment: Environment) -> Generator[None]:
    """An error says which environment it is about."""
    try:
        yield
    except GroundError as error:
        if repr(environment.name) not in error.message:
            error.message = f"environment {environment.name!r}: {error.message}"
        raise


def resolve(
    platform: Platform,
    environment: Environment,
    folder: Path,
    definition: str,
    builder: str | None,
    progress: Progress,
    *,
    stranger: bool,
) -> Lock:
    """The environment as it is resolved now, with its image built and its documents written. definition: its own.
    stranger: as of `image_of`."""
    recipe = environments.recipe(environment, folder, builder)
    chosen = builder or ("debian" if recipe.suite else "docker")
    if chosen == "debian" and not recipe.suite:
        raise Invalid(
            f"environment {environment.name!r} is an image or a Dockerfile: that is for the docker builder",
            hint="leave --builder away",
        )
    if told := environments.passed_over(environment, folder):
        progress(told)
    made = shelf.builder(platform.home, chosen, folder, stranger=stranger).lock(recipe, progress)
    made = replace(made, name=environment.name, definition=definition)
    image = shelf.store(platform.home).find(made.recipe)
    if image is None:
        raise Unavailable(f"{environment.name} was resolved, but its image is not there", hint="try again")
    _document(platform, made, image)
    return made


def _document(platform: Platform, lock: Lock, image: Image) -> None:
    """Its SBOM and its signed provenance, beside the image."""
    from groundplane.images import keys, provenance, sbom

    makers: Mapping[str, Callable[[], bytes]] = {
        SBOM: lambda: sbom.sbom(lock, image),
        PROVENANCE: lambda: provenance.sign(lock, image, keys.signing(platform.home / "keys")),
    }
    for name, make in makers.items():
        path = document(platform, lock, image, name)
        if not path.is_file():
            shelf.store(platform.home).put(path, make())


def _pool(request: EnvironmentRequest) -> Path | None:
    if request.offline is None:
        return None
    folder = Path(request.folder) / request.offline
    if not folder.is_dir():
        raise Invalid(f"--offline {request.offline} is no folder", hint="`ground env pool -o DIR` makes one")
    return folder


def _text(locks: Iterable[Lock]) -> str:
    from groundplane.images import lockfile

    return lockfile.write(locks)


def _named(name: str, progress: Progress) -> Progress:
    return lambda text: progress(f"{name}: {text}")


def digests_in(folder: Path) -> Callable[[str], str | None]:
    """sha256 of the folder's file of a name; None for none."""
    return lambda name: _digest_of(folder / name)


def _digest_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
