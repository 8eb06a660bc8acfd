"""What a plan's steps ask for, as policies see it, and what is decided on each: per run and step, never per task of a
fan-out."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from sqlalchemy import Connection

from groundplane.model.errors import Denied
from groundplane.model.pipelines import Step
from groundplane.services import audit, gate, labels
from groundplane.services.access import Actor
from groundplane.services.cedar import Decision
from groundplane.services.labels import Made
from groundplane.services.objects import Launch, Principal, Resource
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform, now
from groundplane.store import backends, licences, policies, teams
from groundplane.toolchains import versions

ACTION = "run.submit"
SEEN = "project.see"
SENT = "folder.send"


@dataclass(frozen=True, slots=True)
class Asked:
    """One decision. steps: of the run, all that ask for the same."""

    steps: tuple[str, ...]
    launch: Launch
    decision: Decision


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions on a run, for whom they were made, and the team that its project belongs to."""

    who: Principal
    team: str
    asked: tuple[Asked, ...]

    @property
    def denied(self) -> Asked | None:
        """The first that is none to go on with."""
        return next((each for each in self.asked if not each.decision.allowed), None)

    def of(self, step: str) -> Decision:
        """The decision on the step of that name."""
        return next(each.decision for each in self.asked if step in each.steps)

    def body(self) -> str:
        """As JSON, to be explained and decided again later."""
        return json.dumps(
            {
                "principal": plain(self.who),
                "team": self.team,
                "asked": [
                    {"steps": list(each.steps), "resource": plain(each.launch), **asdict(each.decision)}
                    for each in self.asked
                ],
            },
            sort_keys=True,
        )


def admit(platform: Platform, actor: Actor, action: str, object_: str, project: str) -> None:
    """Before anything is planned. Raises Denied for a project that the actor may not see, in the same words as for one
    that is not there."""
    with platform.database.read() as connection:
        row = teams.project(connection, project)
        on = _project(project, row.team if row else "")
        decision = gate.decide(platform, connection, actor, SEEN, on)
    if decision.allowed:
        return
    denied = Denied(f"there is no project {project!r} that you may use", hint="`ground projects list` shows yours")
    with platform.database.write() as connection:
        facts = {"project": project, "asked": SEEN, "rule": decision.rule, "reason": denied.message}
        audit.record(platform, connection, actor, action, object_, "denied", facts)
        if action == ACTION:
            body = _refused(platform, connection, actor, project, on.team)
            policies.decided(connection, run=object_, at=now(), outcome="denied", body=body)
    raise denied


def _refused(platform: Platform, connection: Connection, actor: Actor, project: str, team: str) -> str:
    """The decision that he may not see the project, to be explained to him too: as if it were not there."""
    on = _project(project, "")
    who, found = gate.principal(connection, actor, SEEN, ""), gate.decide(platform, connection, actor, SEEN, on)
    refused = {"action": SEEN, "object": project, "rule": "" if found.allowed else found.rule, "error": found.error}
    return json.dumps({"principal": plain(who), "team": team, "asked": [], "refused": refused}, sort_keys=True)


def asked_before(project: str, team: str) -> list[tuple[str, Resource]]:
    """What an account's launch into the project is asked, in this order, before it is decided on its steps."""
    return [(SENT, Resource("folder", project)), (SEEN, _project(project, team))]


def _project(name: str, team: str) -> Resource:
    return Resource("project", name, team, name)


def decide(
    platform: Platform, connection: Connection, actor: Actor, plan: RunPlan, made: Made | None = None
) -> Decided:
    """What the policies say of each step. made: see `labels.made_in`."""
    row = teams.project(connection, plan.pipeline.project)
    team = row.team if row is not None else ""
    who = gate.principal(connection, actor, ACTION, team)
    rules = gate.rules(platform, connection)
    same: dict[Launch, list[str]] = {}
    for step, launch in _launches(connection, plan, team, made):
        same.setdefault(launch, []).append(step.name)
    return Decided(
        who, team, tuple(Asked(tuple(steps), each, rules.decide(who, ACTION, each)) for each, steps in same.items())
    )


@contextmanager
def launch(
    platform: Platform, actor: Actor, action: str, run: str, plan: RunPlan, kept: Any = None
) -> Generator[tuple[Connection, str]]:
    """A write transaction in which the run may begin, with the team that it is for. Raises Denied that names the rule
    and the step; that is an event then, and no run. kept: the run whose finished steps it goes on from."""
    facts: dict[str, Any] = {"name": plan.name, "backend": plan.backend}
    found: list[Decided] = []

    def ask(connection: Connection) -> None:
        made = labels.made_in(connection, kept.id, plan) if kept is not None else None
        found[:] = [decide(platform, connection, actor, plan, made)]
        refused = found[0].denied
        if refused is None:
            return
        facts.update(project=plan.pipeline.project, step=refused.steps[0], **gate.told(refused.decision))
        raise denial(actor, plan, refused)

    try:
        with gate.decided(platform, actor, action, run, facts, ask) as connection:
            _keep(connection, run, "allowed", found[0])
            yield connection, found[0].team
    except Denied:
        if found and found[0].denied:
            with platform.database.write() as connection:
                _keep(connection, run, "denied", found[0])
        raise


def denial(actor: Actor, plan: RunPlan, refused: Asked) -> Denied:
    """The error that says which rule keeps which step from starting."""
    rule = refused.decision.rule
    more = "`ground policy list` shows whose rule it is" if rule else "`ground whoami` shows your roles"
    return Denied(
        f"step {refused.steps[0]!r} of project {plan.pipeline.project!r} is denied to {actor.name}: "
        f"{refused.decision.why}",
        hint=f"`ground plan` shows what is decided on each step; {more}",
    )


def plain(found: Principal | Launch | Resource) -> dict[str, Any]:
    """As JSON has it."""
    return {
        name: sorted(cast("frozenset[str]", value)) if isinstance(value, frozenset) else value
        for name, value in asdict(found).items()
    }


def principal_of(body: Mapping[str, Any]) -> Principal:
    """Of a kept decision."""
    sets = ("roles", "teams", "training", "clearance", "methods")
    found: dict[str, Any] = {**body, **{name: frozenset[str](body[name]) for name in sets}}
    found["attributes"] = tuple((name, value) for name, value in body["attributes"])
    return Principal(**found)


def launch_of(body: Mapping[str, Any]) -> Launch:
    """Of a kept decision."""
    found: dict[str, Any] = {**body, "labels": frozenset[str](body["labels"])}
    return Launch(**found)


def _keep(connection: Connection, run: str, outcome: str, found: Decided) -> None:
    policies.decided(connection, run=run, at=now(), outcome=outcome, body=found.body())


def _launches(connection: Connection, plan: RunPlan, team: str, made: Made | None) -> Generator[tuple[Step, Launch]]:
    places = {row.name: row for row in backends.listing(connection)}
    labelled = labels.of_steps(plan, made)
    pools = {row.name for row in licences.listing(connection)}
    for step in plan.pipeline.steps:
        placed, engine = plan.placement(step), plan.engines[step.name]
        said = places.get(placed.backend)
        nodes = step.resources.nodes or 1
        image = placed.image.image if placed.image is not None else ""
        if not image and (placed.image is not None or plan.whole):
            image = f"groundplane/{placed.environment or engine.name}"
        licence = engine.name.rpartition("/")[2]
        yield (
            step,
            Launch(
                team=team,
                project=plan.pipeline.project,
                labels=labelled[step.name],
                backend=placed.backend,
                region=said.region if said is not None else "",
                encrypted=bool(said is not None and said.encrypted),
                image=image,
                gpus=(step.resources.gpus or 0) * nodes,
                cpus=math.ceil((1.0 if step.resources.cpus is None else step.resources.cpus) * nodes),
                licence=licence if licence in pools or versions.is_licensed(licence) else "",
            ),
        )
