"""What a run would do: shown before anything starts, with what policy decides of each step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import PlanDocument, PlannedTask, RunRequest
from groundplane.model.pipelines import Step
from groundplane.services import (
    callers,
    calls,
    granting,
    labels,
    launches,
    licences,
    planning,
    plans,
    quotas,
    reuse,
    staging,
    views,
)
from groundplane.services.access import Actor
from groundplane.services.plans import RunPlan, is_dynamic
from groundplane.services.platform import Platform
from groundplane.services.variables import Variables
from groundplane.services.visibility import Sight
from groundplane.store import tasks


def plan(platform: Platform, actor: Actor, request: RunRequest) -> PlanDocument:
    """What `submit` would do; nothing starts."""
    admit = partial(launches.admit, platform, actor, "run.plan", "a plan")
    made = planning.plan(platform, request, admit, stranger=callers.is_stranger(actor))
    licences.check(platform, made)
    granting.check(platform, made)
    found = Variables(request.context.variables, request.environment)
    steps: list[PlannedTask] = []
    unsettled: set[str] = set()  # steps whose outputs are not known before they have run
    with platform.database.read() as connection:
        names = [licences.name_of(engine) for engine in made.engines.values()]
        full = licences.waits(platform, connection, names, sees=Sight(platform, connection, actor).sees, asking=False)
        decided = launches.decide(platform, connection, actor, made)
        quotas.admit(connection, made, decided.team, lock=False)
        beyond = quotas.waits(connection, made, decided.team)
        labelled = labels.of_steps(made)
        for step in made.pipeline.steps:
            engine = made.engines[step.name]
            placed = made.placement(step)
            steps.append(
                PlannedTask(
                    step=step.name,
                    toolchain=engine.toolchain,
                    engine=engine.name,
                    engine_path=engine.path,
                    engine_version=engine.version,
                    command=calls.planned_argv(platform.home, made, step),
                    backend=placed.backend,
                    cpus=step.resources.cpus,
                    memory=step.resources.memory,
                    gpus=step.resources.gpus or 0,
                    nodes=step.resources.nodes or 1,
                    timeout=step.resources.timeout,
                    retries=step.retries,
                    needs=step.needs,
                    inputs=tuple(f"{read.name} = {views.source_text(read.source)}" for read in step.inputs),
                    outputs=step.outputs if step.outputs is not None else ("every file that it creates or changes",),
                    tasks=None if is_dynamic(step) else len(staging.known_items(platform.home, made, step) or ("",)),
                    reuse=(reused := _reuse(platform, connection, made, decided.team, step, found, unsettled)),
                    runs_in=placed.environment,
                    lock_sha256=plans.load_lock(connection, placed.lock).sha256 if placed.lock else None,
                    waiting=None
                    if reused == "would be reused"
                    else beyond.get(step.name) or full.get(licences.name_of(engine)),
                    labels=tuple(sorted(labelled[step.name])),
                    decision="allow" if decided.of(step.name).allowed else "deny",
                    rule=decided.of(step.name).rule,
                )
            )
    return PlanDocument(
        name=made.name,
        project=made.pipeline.project,
        pipeline=made.shown_pipeline,
        backend=made.backend,
        snapshot=made.snapshot,
        files=made.files,
        bytes=made.bytes,
        ignored=made.ignored,
        parameters=made.pipeline.parameters,
        steps=tuple(steps),
        warnings=made.warnings,
        labels=tuple(sorted(frozenset[str]().union(*labelled.values()))),
        decision="deny" if decided.denied else "allow",
        rule=(decided.denied or decided.asked[0]).decision.rule,
    )


def _reuse(
    platform: Platform,
    connection: Connection,
    plan: RunPlan,
    team: str,
    step: Step,
    found: Variables,
    unsettled: set[str],
) -> str:
    if not reuse.eligible(step, plan):
        unsettled.add(step.name)
        return "its backend's cache decides" if plan.whole and not plan.fresh else "always runs"
    if plan.fresh:
        unsettled.add(step.name)
        return "runs: --fresh"
    waits = [name for name in step.needs if name in unsettled]
    if waits or step.for_each is not None or plan.engines[step.name].missing or staging.urls(step):
        unsettled.add(step.name)
        return f"depends on {', '.join(waits)}" if waits else "known when it is its turn"
    try:
        settled = _settled(connection, plan, team)
        digests = staging.planned_digests(connection, platform.home, plan, step, settled=settled)
    except staging.MissingInput:
        unsettled.add(step.name)
        return "no earlier run"
    parts = reuse.components(platform.home, plan, step, digests, found)
    said = reuse.explain(connection, plan, team, step.name, parts)
    if said != "would be reused":
        unsettled.add(step.name)
    return said


def _settled(connection: Connection, plan: RunPlan, team: str) -> Mapping[str, Any]:
    """Step name -> its newest succeeded task; right for a step that would be reused."""
    found = {
        step.name: tasks.last_success(connection, team, plan.pipeline.project, plan.pipeline.name, step.name)
        for step in plan.pipeline.steps
        if step.for_each is None
    }
    return {name: row for name, row in found.items() if row is not None}
