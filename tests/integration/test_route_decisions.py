"""Every route, asked by every role held in the project's team, in another one, at the platform, and by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.api.actions import ACTIONS, OPEN
from groundplane.model.ids import new_id
from groundplane.services.access import Actor
from groundplane.store.database import sqlite_url
from tests.integration import accounts
from tests.integration.accounts import ROLES, OpenApi
from tests.planes import ME, Ground, Shared

PLACES = {"own": "research", "other": "finance", "platform": "platform"}
STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
SPEC = f'[project]\nname = "trial"\n[environments.e]\ntoolchain = "python@3.13"\n[pipelines.p]\n{STEP}'

# What each role may do, written down once more by hand.
SEND = {"folder.send"}
ANYONE = {"backend.see", "image.see", "key.see", "licence.see", "policy.check", "status.see", "toolchain.see", OPEN}
SEE = {"run.see"}
DATA = {"artifact.read", "environment.see", "log.read"}
WORK = {
    "environment.attest", "environment.build", "environment.lock", "image.push", "pipeline.compile", "run.cancel",
    "run.rerun", "run.submit",
}  # fmt: skip
OPERATE = {
    "backend.add", "backend.gc", "backend.remove", "control_plane.stop", "doctor.see", "environment.pool",
    "image.prune", "licence.remove", "licence.set", "quota.remove", "quota.set", "toolchain.install",
}  # fmt: skip
AUDIT = {
    "audit.checkpoint", "audit.export", "audit.key", "audit.read", "audit.verify", "policy.explain", "policy.see",
    "policy.simulate", "project.see", "team.see", "user.see",
}  # fmt: skip
GOVERN = {
    "audit.forget", "policy.add", "policy.remove", "project.create", "team.add", "team.create", "team.remove",
    "user.create", "user.disable", "user.enable", "user.set",
}  # fmt: skip
OWN = {"token.create", "token.revoke", "token.see"}  # everybody, of one's own
LISTED = {"connection.see", "quota.see", "secret.see"}  # anybody may ask, and is told of what it may see
USE = {"connection.check"}  # here of the platform's own, as all below
MAINTAIN = {
    "artifact.declassify", "connection.add", "connection.remove", "project.set", "secret.remove", "secret.set",
}  # fmt: skip
MAY = {
    "viewer": SEE | DATA | {"project.see", "team.see"},
    "member": SEE | DATA | WORK | USE | {"project.see", "team.see"},
    "maintainer": SEE | DATA | WORK | USE | MAINTAIN | {"project.see", "team.see"},
    "operator": SEE | OPERATE | {"project.see", "team.see"},
    "auditor": AUDIT,
    "owner": SEE | DATA | WORK | USE | MAINTAIN | OPERATE | AUDIT | GOVERN,
}
OF_THE_TEAM = {"project.create", "project.see", "team.add", "team.remove", "team.see"}
OF_THE_PROJECT = (
    SEE | DATA | WORK | OF_THE_TEAM | {"artifact.declassify", "policy.explain"}
)  # everything else belongs to the platform


def may(actor: Actor, action: str) -> bool:
    """As the table says; actors are called ROLE-PLACE."""
    if actor is ME or action in ANYONE | LISTED | OWN or (action == "folder.send" and actor.name != "nobody-"):
        return True
    role, _, place = actor.name.partition("-")
    held = place == "platform" or (place == "own" and action in OF_THE_PROJECT)
    return held and action in MAY.get(role, set())


class World:
    """A run of the project `trial` of team research, and an account for each role and place."""

    def __init__(self, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ground = ground
        self.api = OpenApi(ground.platform, monkeypatch)
        ground.platform.stop = lambda: None
        with ground.platform.database.write() as connection:
            accounts.project(connection, "trial", "research")
            accounts.team(connection, "finance")
            self.actors = [ME, accounts.user(connection, "nobody-")] + [
                accounts.user(connection, f"{role}-{place}", (team, role))
                for role in ROLES
                for place, team in PLACES.items()
            ]
        ground.play(a={"outputs": {"out.csv": "x\n1\n"}, "stdout": "hello\n"})
        self.run = ground.run(STEP)

    def body(self, method: str, path: str) -> Any:
        """A request's body that is right, or wrong only for who may go on."""
        context = {"folder": str(self.ground.project), "variables": {"PATH": "/nonexistent"}}
        request = {"target": "p", "folder": str(self.ground.project), "context": context, "spec": SPEC}
        known: dict[str, Any] = {
            "/runs/{run_id}": request, "/plans": request, "/pipelines/compile/{target}": request,
            "/runs/{ref}/reruns": {"id": new_id(), "context": context},
            "/images/push": {"name": "e", "reference": "host.example/x", "spec": SPEC, "folder": request["folder"]},
            "/backends/{name}": {"driver": "nothing"}, "/licences/{name}": {"seats": 1},
            "/policies/{name}": {"text": "nothing"}, "/policies/check": {"name": "x", "text": "nothing"},
            "/policies/simulate": {"name": "x", "text": "nothing"}, "/policies/test": {"cases": [], "files": []},
            "/doctor": context, "/shutdown": {}, "/projects/{name}": {"team": "research"}, "/tokens": {},
            "/teams/{name}": {}, "/users/{name}": {}, "/secrets/{name}": {"value": "eA=="},
            "/connections/{name}": {"url": "postgresql://u@h/d"}, "/projects/{name}/labels": {"labels": []},
            "/runs/{ref}/declassifications": {"artifact": "a/out.csv", "label": "phi", "reason": "nothing"},
            "/quotas": {"name": "nothing", "limits": {"gpus": 1}}, "/audit/verify": {},
            "/audit/forget": {"person": "nothing"},
        }  # fmt: skip
        if path.startswith("/environments/"):
            return {"folder": request["folder"], "context": context, "spec": SPEC, "builder": "nothing"}
        return known.get(path) if method != "delete" else None

    def ask(self, actor: Actor, method: str, path: str) -> Any:
        concrete = path.replace("{ref}", self.run.id).replace("{run_id}", new_id()).replace("{target}", "kubeflow")
        concrete = concrete.replace("{task}", "a").replace("{user}", "nothing").replace("{role}", "viewer")
        concrete = concrete.replace("{name}", "research" if path.startswith("/teams/{name}") else "nothing")
        concrete = concrete.replace("{id}", "nothing")
        if path in ("/images/show", "/folders") or (method, path) == ("delete", "/quotas"):
            concrete += "?name=nothing"
        elif path == "/policies/explain":
            concrete += f"?ref={self.run.id}"
        elif path.startswith("/toolchains") and method == "get":
            concrete = concrete.replace("nothing", "r") + "?path=/nonexistent"
        return self.api.of(actor, method.upper(), concrete, self.body(method, path))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("decisions")
    ground = Ground(
        folder / "home", folder / "project", sqlite_url(folder / "ground.db"), Shared(folder / "home").seat()
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield World(ground.start(), monkeypatch)
    ground.close()


@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_each_role_gets_what_the_policy_says(world: World, method: str, path: str) -> None:
    action = ACTIONS[method, path]
    wrong: list[str] = []
    for actor in world.actors:
        answer = world.ask(actor, method, path)
        said = answer.body.decode(errors="replace")
        told = f"{actor.name}: {answer.status} {said[:200]}"
        gone = answer.status == 404 and f"there is no run '{world.run.id}'" in said
        sees = may(actor, "run.see")
        if answer.status >= 500:
            right = False
        elif path == "/plans":
            right = answer.status == (200 if may(actor, "project.see") else 403)
            right = right and (
                answer.status == 403 or f'"decision":"{"allow" if may(actor, "run.submit") else "deny"}"' in said
            )
        elif path == "/policies/explain":
            right = answer.status == (200 if sees or may(actor, action) else 404)
        elif path == "/tokens/{id}":
            right = answer.status == 404
        elif path in ("/projects", "/teams"):
            name = "trial" if path == "/projects" else '"name":"research"'
            right = answer.status == 200 and (name in said) == may(actor, action)
        elif (method, path) == ("get", "/tokens"):
            right = answer.status == 200
        elif path in ("/projects/{name}/labels", "/audit/events/{ref}"):
            right = (answer.status == 404) if may(actor, action) else (answer.status == 403)
        elif path.startswith(("/teams/{name}", "/projects/{name}")) and not may(actor, "team.see"):
            new = action == "team.create"  # below the platform, which everybody knows of
            right = answer.status == 403 if new else answer.status == 404 and "there is no team 'research'" in said
        elif path == "/runs":
            right = answer.status == 200 and (world.run.id in said) == sees
        elif path.startswith("/runs/{ref}") and not sees:
            right = gone
        elif may(actor, action):
            right = answer.status not in (401, 403) and not gone
        else:
            right = answer.status == 403 and '"code":"denied"' in said
        if not right:
            wrong.append(told)
    assert not wrong, "\n".join([action, *wrong])


def test_the_table_knows_every_action_of_a_route() -> None:
    known = ANYONE | LISTED | USE | MAINTAIN | SEND | OWN | SEE | DATA | WORK | OPERATE | AUDIT | GOVERN
    assert set(ACTIONS.values()) <= known
