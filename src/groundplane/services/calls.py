"""A step's command, as its toolchain makes it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from groundplane.model.pipelines import Step
from groundplane.services.plans import RunPlan
from groundplane.services.spec import fanout
from groundplane.spi import layout
from groundplane.spi.toolchain import Call, Command, Engine
from groundplane.toolchains import registry

_HEAD_BYTES = 4096
_SUPPORT = "<support>"


def command(home: Path, plan: RunPlan, step: Step, support: str, *, confined: bool = False) -> Command:
    """What starts the step. support: see `Call`. Of the home it reads the script's first kilobytes. confined: it will
    see nothing of the platform's own."""
    engine = plan.engines[step.name]
    call = Call(
        engine=Engine(engine.name, engine.path or engine.name, engine.version),
        script=step.script,
        command=step.command,
        arguments=step.arguments,
        parameters=step.parameters,
        support=support,
        head=_head(home, engine.script_sha256) if engine.script_sha256 else b"",
        inside=confined or plan.placement(step).image is not None or bool(plan.whole),
    )
    return registry.get(engine.toolchain).command(call)


def planned_argv(home: Path, plan: RunPlan, step: Step) -> tuple[str, ...]:
    """The same for eyes: `<support>` is a folder of the attempt's own, `{variable}` a fan-out's item, and an engine
    that is missing has its name alone."""
    fan = step.for_each
    shown = fanout.fill(step, f"{{{fan.variable}}}") if fan else step
    return command(home, plan, shown, _SUPPORT).argv


@lru_cache(maxsize=256)
def _head(home: Path, sha256: str) -> bytes:
    with layout.blob(home, sha256).open("rb") as file:
        return file.read(_HEAD_BYTES)
