"""Licensed engines: no lock can hold them, so their owner says what was installed."""

from __future__ import annotations

from typing import Any

from groundplane.model.errors import Invalid
from groundplane.model.locks import Attested, Lock
from groundplane.model.requests import EnvironmentRequest
from groundplane.services import engines, environments, gate, licences, locking, visibility
from groundplane.services.access import Actor
from groundplane.services.platform import Platform

BUILDER = "attested"


def attest(platform: Platform, actor: Actor, request: EnvironmentRequest) -> dict[str, Any]:
    """Notes the installer of a licensed engine in ground.lock; the engine is looked up where the caller has it."""
    asked = locking.read(request)
    on = visibility.of_project(platform, "environment", asked.project)
    gate.require(platform, actor, "environment.attest", on)
    if len(asked.wanted) != 1:
        raise Invalid("one environment is attested at a time", hint="ground env attest NAME --installer FILE")
    (environment,) = asked.wanted
    if not environment.toolchain:
        raise Invalid(
            f"environment {environment.name!r} is an image: its digest says what it is",
            hint='an installer is for toolchain = "matlab@R2024b" and the like',
        )
    found = environments.match(environment)
    if not found.licensed:
        raise Invalid(
            f"environment {environment.name!r} is {found.engine}, which needs no licence: its packages are locked",
            hint=f"ground env lock {environment.name}",
        )
    spec = environments.engine_spec(found.engine)
    here = engines.find(platform, [spec], request.context, libraries=False)
    if here is None:
        raise Invalid(
            f"your PATH has no {' or '.join(spec.programs)}: what was installed from it?",
            hint=f"install {found.engine} first, and put its folder on PATH",
        )
    server, seats = licences.pool_of(platform, found.engine)
    installer = request.installer
    made = Lock(
        name=environment.name,
        definition=asked.definition(environment),
        toolchain=found.toolchain,
        engine=found.engine,
        version=here.version,
        program=here.path,
        builder=BUILDER,
        attested=Attested(installer["name"], installer["sha256"], int(installer["size"]), server, seats),
        probe=here.version,
    )
    with gate.change(platform, actor, "environment.attest", environment.name, on, installer=installer["sha256"]):
        pass
    return {"lock": locking.written(asked, [made]), "environments": [locking.row(platform, made)]}
