"""What is known about locked and built environments: shown, compared, verified, found outdated."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid, NotFound
from groundplane.model.locks import Lock
from groundplane.model.requests import EnvironmentRequest
from groundplane.services import callers, gate, locking, shelf, visibility
from groundplane.services.access import Actor
from groundplane.services.locking import Asked
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.spi.images import Progress
from groundplane.toolchains import versions


def listing(platform: Platform, actor: Actor, request: EnvironmentRequest) -> list[dict[str, Any]]:
    """Each environment of ground.toml; state: not locked, stale (ground.toml has changed since), locked, built,
    attested."""
    asked = _read(platform, actor, request)
    rows: list[dict[str, Any]] = []
    for environment in asked.wanted:
        found = asked.locks.get(environment.name)
        row = locking.row(platform, found) if found else _unlocked(environment)
        rows.append({**row, "state": _state(asked, environment, found, built=bool(row["image_digest"]))})
    return rows


def _state(asked: Asked, environment: Environment, found: Lock | None, *, built: bool) -> str:
    if found is None:
        return "not locked"
    if found.definition != asked.definition(environment):
        return "stale"
    return "built" if built else "attested" if found.attested else "locked"


def show(platform: Platform, actor: Actor, request: EnvironmentRequest) -> dict[str, Any]:
    """One environment with its packages, what its engine says of itself, and whether it is still supported."""
    _, found = _one(platform, actor, request)
    ended = versions.support_warning(found.engine, found.version, datetime.now(UTC).date()) if found.engine else None
    return {
        **locking.row(platform, found),
        "packages": packages(found),
        "probe": found.probe,
        "warnings": [each for each in (ended, _recorded_otherwise(found)) if each],
    }


def _recorded_otherwise(found: Lock) -> str:
    """What is to be said of a project's own lock that another version of the engine wrote; "" for nothing."""
    from groundplane.images import renv

    if found.native is None or found.native.kind != "renv":
        return ""
    return renv.differs(renv.read(found.native.text)[0], found.version)


def diff(platform: Platform, actor: Actor, request: EnvironmentRequest) -> dict[str, Any]:
    """Two environments' packages against each other."""
    asked = _read(platform, actor, request)
    if len(asked.wanted) != 2:
        raise Invalid("a comparison takes two environments", hint="ground env diff A B")
    before, after = ({(p["kind"], p["name"]): p for p in packages(asked.lock(each))} for each in asked.wanted)
    both = sorted(before.keys() & after.keys())
    return {
        "added": [after[key] for key in sorted(after.keys() - before.keys())],
        "removed": [before[key] for key in sorted(before.keys() - after.keys())],
        "changed": [
            {"name": name, "kind": kind, "before": old["version"], "after": new["version"]}
            for kind, name in both
            if (old := before[kind, name])["version"] != (new := after[kind, name])["version"]
        ],
    }


def packages(found: Lock) -> list[dict[str, Any]]:
    """Every package of the image: name, version, sha256 (None where only the image tells of it), kind (`deb`, `apk`,
    `python`, `r`)."""
    debs = [*(found.base.packages if found.base else ()), *found.packages]
    rows: list[dict[str, Any]] = [
        {"name": p.name, "version": p.version, "sha256": p.sha256, "kind": "deb"} for p in debs
    ]
    if found.native:
        kind = {"pylock": "python", "renv": "r"}[found.native.kind]
        rows += [{"name": f.name, "version": f.version, "sha256": f.sha256, "kind": kind} for f in found.native.files]
    rows += [{"name": f.name, "version": f.version, "sha256": None, "kind": f.kind} for f in found.found]
    return sorted(rows, key=lambda row: (row["kind"], row["name"]))


def verify(platform: Platform, actor: Actor, request: EnvironmentRequest, progress: Progress) -> dict[str, Any]:
    """Blobs against digests, envelope against key, image against lock: sentences that name what changed."""
    asked = _read(platform, actor, request)
    rows: list[dict[str, Any]] = []
    for environment in asked.workable(progress):
        found = asked.lock(environment)
        progress(f"{environment.name}: reading its image")
        problems = _problems(platform, found)
        rows.append({"name": environment.name, "ok": not problems, "problems": problems})
    return {"ok": all(row["ok"] for row in rows), "environments": rows}


def _problems(platform: Platform, found: Lock) -> Sequence[str]:
    from groundplane.images import keys, provenance

    if found.attested:
        return ()
    store = shelf.store(platform.home)
    image = store.find(found.recipe)
    if image is None:
        return [f"its image is not built here: ground env build {found.name}"]
    problems = list(store.check(image))
    if not image.is_of(found):
        problems.append("the image's layers are not those that ground.lock names")
    envelope = locking.document(platform, found, image, locking.PROVENANCE)
    if not envelope.is_file():
        return [*problems, f"its provenance is gone: {envelope}"]
    return [*problems, *provenance.verify(envelope.read_bytes(), keys.public(platform.home / "keys"), image, found)]


def document(platform: Platform, actor: Actor, request: EnvironmentRequest, kind: str) -> bytes:
    """The image's SBOM or provenance, as it was written when the image was built."""
    _, found = _one(platform, actor, request)
    image = None if found.attested else shelf.built(platform.home, found)
    if image is None:
        if found.attested:
            raise NotFound(
                f"environment {found.name!r} is attested: there is no image of it",
                hint=f"`ground env show {found.name}` has what is known of it",
            )
        raise NotFound(f"environment {found.name!r} is not built here", hint=f"ground env build {found.name}")
    path = locking.document(platform, found, image, kind)
    if not path.is_file():
        raise NotFound(f"the {kind} of environment {found.name!r} is gone", hint=f"ground env build {found.name}")
    return path.read_bytes()


def signing_keys(platform: Platform, actor: Actor) -> list[dict[str, str]]:
    """name, algorithm, public_key of each key that signs."""
    from groundplane.images import keys

    gate.require(platform, actor, "key.see", Resource("key"))
    return keys.listing(platform.home / "keys")


def outdated(platform: Platform, actor: Actor, request: EnvironmentRequest, progress: Progress) -> list[dict[str, Any]]:
    """What moved on since the locks: packages of the suites, versions of the toolchains. With `security` only what
    the suites' security indices have newer, as they were at the last lock: no network is needed."""
    from groundplane.images import outdated as aging

    asked = _read(platform, actor, request)
    locks = [lock for lock in map(asked.lock, asked.workable(progress)) if not lock.attested]
    downloads = shelf.downloads(platform.home, stranger=callers.is_stranger(actor))
    rows = aging.rows(locks, shelf.store(platform.home), downloads, security=request.security, progress=progress)
    if request.security:
        return rows
    for each in locks:
        newer = versions.newest(each.engine, each.version) if each.engine else None
        if newer:
            row = {"environment": each.name, "package": each.engine, "kind": "toolchain", "locked": each.version}
            rows.append({**row, "available": newer, "security": False})
    return rows


def _read(platform: Platform, actor: Actor, request: EnvironmentRequest) -> Asked:
    """Raises Denied where the actor may not see the project's."""
    asked = locking.read(request)
    gate.require(platform, actor, "environment.see", visibility.of_project(platform, "environment", asked.project))
    return asked


def _one(platform: Platform, actor: Actor, request: EnvironmentRequest) -> tuple[Environment, Lock]:
    asked = _read(platform, actor, request)
    if len(asked.wanted) != 1:
        raise Invalid("say which environment", hint=f"there are: {', '.join(each.name for each in asked.wanted)}")
    (environment,) = asked.wanted
    return environment, asked.lock(environment)


def _unlocked(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "toolchain": environment.toolchain or None,
        "version": environment.version or None,
        "engine": environment.engine or None,
        "builder": None,
        "upstream": environment.image or environment.dockerfile or None,
        "lock_sha256": None,
        "image_digest": None,
        "layers": [],
        "size": None,
        "provenance": None,
        "built_at": None,
    }
