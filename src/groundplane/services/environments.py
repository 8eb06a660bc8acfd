"""Environments against the catalogue: what a builder has to make of them, and whether a lock is still theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid, NotFound
from groundplane.model.locks import Lock
from groundplane.spi.images import Recipe
from groundplane.spi.toolchain import EngineSpec
from groundplane.toolchains import registry, versions
from groundplane.toolchains.versions import Match

LOCK_FILE = "ground.lock"
_NATIVE = {"python": ("pylock.toml", "uv.lock"), "notebook": ("pylock.toml", "uv.lock"), "r": ("renv.lock",)}


def definition(environment: Environment, digest_of: Callable[[str], str | None], folder: Path) -> str:
    """Of the environment with the project's own files that its lock is made from: also those that its Dockerfile
    copies, which are read in the project's folder. digest_of: None for no such file."""
    found = [environment.definition]
    if environment.dockerfile:
        from groundplane.images import context

        found += [digest_of(environment.dockerfile) or "", context.digest(folder, environment.dockerfile)]
    elif name := native_lock(environment, lambda name: digest_of(name) is not None):
        found.append(f"{name} {digest_of(name)}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest() if len(found) > 1 else found[0]


def native_lock(environment: Environment, exists: Callable[[str], bool]) -> str:
    """The project's own lock of the language's packages that the environment is made from, "" for none: the first one
    that is there, unless the environment lists `packages`; what somebody writes there is meant. The catalogue's own
    environments, which have no name, are made from no file of a project."""
    if not environment.name or not environment.toolchain or environment.packages:
        return ""
    names = _NATIVE.get(versions.match(environment.toolchain, environment.version).toolchain, ())
    return next((name for name in names if exists(name)), "")


def passed_over(environment: Environment, folder: Path) -> str:
    """A sentence where the project has a lock that does not count, because the environment lists `packages`."""
    name = native_lock(replace(environment, packages=()), lambda name: (folder / name).is_file())
    if not environment.packages or not name:
        return ""
    return (
        f"the packages that [environments.{environment.name}] lists count, and {name} does not: "
        "leave `packages` away to take that"
    )


def match(environment: Environment) -> Match:
    """What its toolchain, engine and version mean. Raises Invalid and NotFound as `versions.match`, and Invalid for an
    engine that the toolchain does not have."""
    found = versions.match(environment.toolchain, environment.version)
    if environment.engine in ("", found.engine):
        return found
    of = [spec.name for spec in registry.get(found.toolchain).engines]
    if environment.toolchain != found.toolchain:  # the name of one engine
        of = [found.engine]
    if environment.engine not in of:
        raise Invalid(
            f"environment {environment.name!r} is {environment.toolchain}, and engine = {environment.engine!r} is none "
            "of its engines",
            hint=f"its engines: {', '.join(of)}",
        )
    return versions.match(environment.engine, environment.version)


def images_for(toolchain: str, known: Iterable[Environment]) -> list[Environment]:
    """Of these, the ones with an image for the toolchain of that name, else for the engine of that name."""
    part = 0 if toolchain in registry.names() else 1
    return [each for each in known if _runs(each)[part] == toolchain]


def _runs(environment: Environment) -> tuple[str, str]:
    """The toolchain and the engine that its image has; "" for what has no image, or does not say it."""
    if not environment.toolchain:
        engine = environment.engine or versions.engine_of_image(environment.image)
        return _toolchain_of(engine), engine
    try:
        toolchain, engine = versions.named(environment.toolchain, environment.version)
    except NotFound:  # told to whoever names it: what runs now has another toolchain
        return "", ""
    engine = environment.engine or engine
    return ("", "") if versions.is_licensed(engine) else (toolchain, engine)


def licensed(environment: Environment) -> bool:
    """Whether it is an engine that its owner has installed: of all others there are images."""
    return bool(environment.toolchain) and match(environment).licensed


def recipe(environment: Environment, folder: Path | None, builder: str | None = None) -> Recipe:
    """What a builder locks. builder: `docker` takes the engine's public image where a Debian suite would do."""
    if not environment.toolchain:
        engine = environment.engine or versions.engine_of_image(environment.image)
        spec = engine_spec(engine) if engine else None
        return Recipe(
            environment=environment,
            toolchain=_toolchain_of(engine) if engine else "",
            engine=engine,
            programs=spec.programs if spec else (),
            probe=spec.probe if spec else (),
            version=spec.version if spec else "",
            folder=folder,
        )
    found = match(environment)
    if builder == "docker":
        if not found.images:
            raise Invalid(
                f"no public image of {' '.join(filter(None, (found.engine, found.version.version)))} is known",
                hint=f'leave --builder away, or write image = "…" in [environments.{environment.name}]',
            )
        environment = replace(environment, image=found.images[0])
    elif not found.suite:
        raise versions.no_suite(found)
    spec = engine_spec(found.engine)
    language = versions.language_debs(found, environment.packages)
    native = native_lock(environment, lambda name: folder is not None and (folder / name).is_file())
    return Recipe(
        environment=environment,
        toolchain=found.toolchain,
        engine=found.engine,
        programs=spec.programs,
        probe=spec.probe,
        version=spec.version,
        folder=folder,
        suite=found.suite,
        debs=(*found.debs, *language, *environment.system_packages),
        native=native,
        python=environment.packages if found.toolchain in ("python", "notebook") else (),
    )


def engine_spec(engine: str) -> EngineSpec:
    """The engine of that name, of whichever toolchain."""
    for name in registry.names():
        for spec in registry.get(name).engines:
            if spec.name == engine:
                return spec
    raise NotFound(f"there is no engine {engine!r}", hint="`ground toolchains list` shows them")


def _toolchain_of(engine: str) -> str:
    """The one of the engine's own name comes before others that it runs, too: notebooks are no language. "" for an
    engine that nobody knows."""
    names = sorted(registry.names(), key=lambda name: name != engine)
    return next((name for name in names if any(spec.name == engine for spec in registry.get(name).engines)), "")


def check_fresh(lock: Lock, wanted: str) -> None:
    """Raises Invalid for a lock of another definition than `wanted`."""
    if lock.definition != wanted:
        raise Invalid(
            f"{LOCK_FILE} holds another {lock.name!r} than ground.toml and the project's own lock files ask for now",
            hint=f"ground env attest {lock.name} --installer FILE" if lock.attested else f"ground env lock {lock.name}",
            code="stale_lock",
        )


@lru_cache(maxsize=64)
def read(text: str) -> Mapping[str, Lock]:
    """A lock file's environments; the same text is read once a process."""
    from groundplane.images import lockfile

    return lockfile.read(text)
