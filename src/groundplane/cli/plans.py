"""A plan for eyes."""

from __future__ import annotations

import sys

from groundplane.cli import output
from groundplane.model.documents import PlanDocument, PlannedTask
from groundplane.model.gpus import gpus_shown
from groundplane.model.quantities import format_duration, format_size


def show(plan: PlanDocument) -> None:
    """What would run, on what, and whether it would be reused."""
    output.pairs(
        [
            ("name", plan.name),
            ("backend", plan.backend),
            ("snapshot", f"{plan.files} file{'s'[: plan.files != 1]}, {format_size(plan.bytes)}"),
            ("ignored", ", ".join(plan.ignored)),
            ("decision", f"{plan.decision}: {plan.rule or 'no rule permits it'}"),
            ("parameters", " ".join(f"{name}={value}" for name, value in plan.parameters.items())),
        ]
    )
    print()
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    heading = ("STEP", "TASKS", "ENGINE", "WHERE", "NEEDS", "LIMITS", "REUSE", "LABELS")
    columns = len(heading) if plan.labels else len(heading) - 1
    output.table(
        heading[:columns],
        [
            (
                step.step,
                "as files come" if step.tasks is None else str(step.tasks),
                f"{step.engine} {step.engine_version}".strip() or step.toolchain,
                f"{step.backend}: {step.runs_in}" if step.runs_in else step.backend,
                ", ".join(step.needs) or "-",
                _limits(step),
                step.reuse,
                ", ".join(step.labels),
            )[:columns]
            for step in plan.steps
        ],
    )
    for step in plan.steps:
        if step.decision != "allow":
            rule = f"by rule {step.rule}" if step.rule else "for no rule permits it"
            print(f"{output.printable(step.step)} would be denied {output.printable(rule)}")
        if step.waiting is not None:
            print(f"now {output.printable(step.step)} {output.printable(step.waiting.message)}")


def _limits(step: PlannedTask) -> str:
    parts = [
        f"{step.nodes} nodes" if step.nodes > 1 else "",
        f"{step.cpus:g} CPU{'s'[: step.cpus != 1]}" if step.cpus is not None else "",
        format_size(step.memory) if step.memory is not None else "",
        gpus_shown(step.gpus, None) if step.gpus else "",
        format_duration(step.timeout) if step.timeout is not None else "",
    ]
    return ", ".join(filter(None, parts)) or "-"
