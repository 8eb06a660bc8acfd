"""Somebody else's image in a Docker engine: found there, or pulled by the engine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundplane.model.errors import GroundError, Invalid, NotFound, Outside, Unavailable
from groundplane.oci import credentials, reference
from groundplane.oci.engine import Engine, Refused
from groundplane.spi.images import Progress

_MISSING = re.compile(
    r"manifest unknown|not found|does not exist|pull access denied|no such image|no matching manifest|unsupported", re.I
)
_UNREACHABLE = re.compile(
    r"dial tcp|no such host|lookup .* on|timeout|connection refused|connection reset|TLS|x509|EOF|unreachable|"
    r"server gave HTTP|Service Unavailable|Bad Gateway|toomanyrequests|context deadline",
    re.IGNORECASE,
)
_TOLD = ("Pulling from", "Digest:", "Status:")


@dataclass(frozen=True, slots=True)
class Held:
    """An image that the engine has. id: bare sha256 of its configuration. digest: `sha256:…` of the manifest in the
    registry that it is named after, "" where it is only in the engine. facts: what the engine tells of it."""

    id: str
    digest: str
    facts: Mapping[str, Any]


def find(engine: Engine, name: str) -> Held | None:
    """The image of that name or id, when the engine has it."""
    try:
        facts = engine.call("GET", f"/images/{name}/json")
    except Refused as error:
        if error.status == 404:
            return None
        raise told(error, name) from error
    return Held(str(facts["Id"]).removeprefix("sha256:"), _digest(name, facts.get("RepoDigests") or ()), facts)


def ensure(engine: Engine, name: str, progress: Progress) -> Held:
    """The image, pulled when the engine lacks it. Raises NotFound `image_missing` where there is none of that name."""
    parsed = reference.parse(name)
    found = find(engine, name)
    if found is not None:
        return found
    progress(f"pulling {name}")
    known = credentials.of(parsed.registry) if parsed.registry else None
    query = {"fromImage": parsed.name, "tag": parsed.digest or parsed.tag or "latest"}
    try:
        for event in engine.events("POST", "/images/create", query, headers=_login(parsed.registry, known)):
            said = str(event.get("status", ""))
            if any(word in said for word in _TOLD):
                progress(said)
    except Refused as error:
        raise told(error, name) from error
    found = find(engine, name)
    if found is None:
        raise Outside(f"the engine pulled {name} and does not have it", hint="try again", code="image_missing")
    return found


def exact(engine: Engine, name: str, digest: str, config: str, progress: Progress) -> Held:
    """The very image that a lock names, by its digest in the registry or else by its id. Raises NotFound
    `image_missing` where only the engine ever had it, and has it no more."""
    held = find(engine, config) if config else None
    if held is not None:
        return held
    if digest:
        return ensure(engine, f"{reference.parse(name).name}@{digest}", progress)
    raise NotFound(
        f"the engine has no image {name} as it was when it was locked (id {config[:12]})",
        hint="it was never in a registry: load it again, build from a pool that kept it (--offline), or lock anew",
        code="image_missing",
    )


def told(error: Refused, name: str) -> GroundError:
    """What the engine said of an image, as an error that names it and the way out."""
    said = error.message.strip()
    if "no space left on device" in said:
        return Unavailable(
            f"the disk of the Docker engine is full: {said}",
            hint="make space there (`docker system prune`)",
            code="no_space",
        )
    if _UNREACHABLE.search(said):
        where = reference.parse(name).registry or "the engine's default registry"
        return Outside(
            f"{name} cannot be pulled: {where} does not answer: {said}",
            hint="is the network up, and the registry's name right? an image that the engine has already needs none "
            "(`docker load`), nor does a build from a pool (--offline)",
            code="registry_unavailable",
        )
    if error.status == 404 or _MISSING.search(said):
        return NotFound(
            f"there is no image {name}: {said}",
            hint="is its name right, with its tag? one that is not public needs `docker login` first",
            code="image_missing",
        )
    return Outside(
        f"the Docker engine cannot give {name}: {said}", hint="`docker pull` may say more", code="backend_unavailable"
    )


def _digest(name: str, digests: Sequence[str]) -> str:
    """The manifest's, where the engine knows one of the repository that the name names."""
    try:
        wanted = reference.parse(name)
    except Invalid:  # an id
        return ""
    known = {reference.parse(each).name: reference.parse(each).digest for each in digests}
    # Of its default registry the engine leaves the host away, and `library/`.
    return known.get(wanted.name) or known.get(wanted.repository.removeprefix("library/"), "")


def _login(registry: str, known: credentials.Credentials | None) -> dict[str, str]:
    if known is None:
        return {}
    body = {"serveraddress": registry}
    body |= {"identitytoken": known.token} if known.token else {"username": known.name, "password": known.password}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(body).encode()).decode()}
