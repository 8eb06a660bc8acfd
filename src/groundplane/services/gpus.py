"""Steps that want GPUs, against what their backends have: what cannot work is refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from groundplane.model import cuda
from groundplane.model.cuda_packages import Needs, needs
from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid
from groundplane.model.gpus import Device, GpuKind, Gpus, facts, gpus_shown, lacks
from groundplane.model.locks import Lock
from groundplane.model.pipelines import Step
from groundplane.spi.driver import Driver, Health

Chosen = Mapping[str, tuple[Environment, Lock | None]]  # by step, of those that have an environment
_ELSEWHERE = "choose another backend with --on (`ground backends list`)"


def settled(step: Step, chosen: Chosen) -> Step:
    """The step with how many GPUs it gets, and of what kind. Its own number counts, then its environment's."""
    environment, lock = chosen.get(step.name, (None, None))
    asked = environment.gpu if environment else None
    count = step.resources.gpus
    if count is None:
        count = asked.count if asked else 0
    kind: GpuKind | None = None
    if count and environment is not None:
        kind = GpuKind(asked.memory if asked else None, tuple(need.cuda for need in needs(lock).cuda))
    return replace(step, resources=replace(step.resources, gpus=count, gpu_kind=None if kind == GpuKind() else kind))


def check(driver: Driver, backend: str, steps: Sequence[Step], chosen: Chosen) -> list[str]:
    """Raises Invalid for the first settled step that would not get the GPUs it needs. The answer: what is not known."""
    warnings: list[str] = []
    health: Health | None = None
    for step in steps:
        environment, lock = chosen.get(step.name, (None, None))
        if step.resources.gpus:
            health = health or driver.check()
            warnings += judge(step, backend, health, environment, lock)
        elif environment is not None and environment.gpu is not None and not environment.gpu.count:
            text = f"environment {environment.name!r} says which GPUs, but not how many: step {step.name!r} gets none"
            warnings.append(f"{text}; `count = 1` in its gpu, or `gpus = 1` in the step's resources, asks for one")
    return list(dict.fromkeys(warnings))


def judge(step: Step, backend: str, health: Health, environment: Environment | None, lock: Lock | None) -> list[str]:
    """Of one step that wants GPUs, as `check`."""
    found = needs(lock)
    warnings = _on_cpu(step, found)
    asked = environment.gpu.cuda if environment and environment.gpu else None
    if environment is not None and not (found.cuda or found.conditions or asked):
        why = "no package of it is known to bring CUDA" if found.known else "nothing tells what is installed in it"
        warnings.append(
            f"which CUDA environment {environment.name!r} needs is not known: {why}; `gpu.cuda` would say it"
        )
    wanted = step.resources.gpus or 0
    if health.ok and health.devices is None and wanted > health.gpus:
        raise Invalid(
            f"step {step.name!r} asks for {gpus_shown(wanted, None)}; backend {backend!r} has {health.gpus or 'none'}",
            hint=f"ask for less, or {_ELSEWHERE}",
            code="gpu_unsuitable",
        )
    if not health.ok or health.devices is None:
        why = health.facts.get("gpus", "") if health.ok else health.message
        warnings.append(
            f"backend {backend!r} does not tell which GPUs it has{f' ({why})' if why else ''}: "
            f"whether they suit step {step.name!r} is not known"
        )
        return warnings
    case = _Case(step, backend, health.devices, found)
    case.check_count()
    if asked:
        case.check_asked(asked)
    return [*warnings, *case.check_driver(), *case.check_devices()]


def _on_cpu(step: Step, found: Needs) -> list[str]:
    """What would fall back to the CPU without a word is refused where nothing else in the lock uses GPUs."""
    told = "; ".join(f"{each.package} {each.why}" for each in found.cpu)
    if found.cpu and not found.cuda:
        hints = [*dict.fromkeys(each.hint for each in found.cpu), "gpus = 0 in the step's resources runs it without"]
        asked = gpus_shown(step.resources.gpus or 0, None)
        raise Invalid(
            f"step {step.name!r} asks for {asked} and would compute on the CPU: {told}",
            hint="; ".join(hints),
            code="gpu_unsuitable",
        )
    return [f"step {step.name!r} asks for GPUs, but {told}"] if told else []


@dataclass(frozen=True, slots=True)
class _Case:
    """A step and the GPUs of its backend. found: what its environment's packages bring."""

    step: Step
    backend: str
    host: Gpus
    found: Needs

    def check_count(self) -> None:
        """There must be as many as are asked for, whatever they are."""
        has = len(self.host.devices)
        if has < (self.step.resources.gpus or 0):
            raise self._unsuitable(f"it has {has}" if has else "it has none")

    def check_asked(self, wanted: str) -> None:
        """`gpu.cuda`: what the driver must support itself, without minor-version compatibility."""
        if not cuda.below(self.host.cuda, wanted):
            return
        raise self._unsuitable(
            f"its environment asks for CUDA {wanted}, which the driver does not support",
            _install(cuda.own_driver(wanted), wanted),
            f'ask for cuda = "{self.host.cuda}" where CUDA\'s minor-version compatibility will do',
        )

    def check_driver(self) -> list[str]:
        """The packages' CUDA against the driver. An image with conditions of its own knows more: it has forward
        compatibility's libraries for some devices."""
        warnings: list[str] = []
        for need in () if self.found.conditions else self.found.cuda:
            if not cuda.driver_runs(self.host.driver, self.host.cuda, need.cuda):
                older = f"CUDA {self.host.cuda.partition('.')[0]} or older" if self.host.cuda else "an older CUDA"
                raise self._unsuitable(
                    f"{need.package} brings CUDA {need.cuda}, which the driver does not run",
                    _install(cuda.least_driver(need.cuda), need.cuda),
                    f"take a build of it for {older}",
                )
            if cuda.below(self.host.cuda, need.cuda):
                own = cuda.own_driver(need.cuda)
                warnings.append(
                    f"step {self.step.name!r}: {need.package} brings CUDA {need.cuda}, backend {self.backend!r} has "
                    f"{self.host.shown}: it runs by minor-version compatibility; what is compiled from PTX while it "
                    f"runs needs {f'driver {own}' if own else 'a newer driver'}"
                )
        return warnings

    def check_devices(self) -> list[str]:
        """Each device against memory, packages and the image's conditions; there must be as many as are asked for."""
        kind = self.step.resources.gpu_kind
        verdicts = [(device, lacks(device, kind) or self._refused_by_image(device)) for device in self.host.devices]
        suitable = [device for device, why in verdicts if not why]
        if len(suitable) < (self.step.resources.gpus or 0):
            brought = " and ".join(need.package for need in self.found.cuda)
            raise self._unsuitable(
                f"of its {len(verdicts)} GPU{'s'[: len(verdicts) != 1]} {len(suitable) or 'none'} would do",
                "ask for less memory (gpu.memory)" if kind and kind.memory else "",
                f"take {brought} in a build for another CUDA" if brought else "",
                verdicts=verdicts,
            )
        if not kind or not kind.memory or all(device.memory is not None for device in suitable):
            return []
        untold = ", ".join(str(device.index) for device in suitable if device.memory is None)
        return [f"backend {self.backend!r} does not tell the memory of GPU {untold}: it may be too little"]

    def _refused_by_image(self, device: Device) -> str:
        for condition in self.found.conditions:
            if not cuda.condition_holds(condition, facts(self.host, device)):
                return f"does not meet the image's condition {condition.partition(' ')[0]!r}"
        return ""

    def _unsuitable(self, what: str, *ways: str, verdicts: Sequence[tuple[Device, str]] = ()) -> Invalid:
        """What is asked for, what is wrong, what the backend has, and the ways out."""
        devices = [f"{device.shown}{f': {why}' if why else ': would do'}" for device, why in verdicts]
        shown = "; ".join(devices or [device.shown for device in self.host.devices])
        asked = gpus_shown(self.step.resources.gpus or 0, self.step.resources.gpu_kind)
        host = f" ({self.host.shown}{'; ' if shown else ''}{shown})" if self.host.driver or shown else ""
        return Invalid(
            f"step {self.step.name!r} asks for {asked} on backend {self.backend!r}: {what}{host}",
            hint=", or ".join(filter(None, (*ways, _ELSEWHERE))),
            code="gpu_unsuitable",
        )


def _install(driver: str, version: str) -> str:
    return f"install driver {driver} or newer" if driver else f"install a driver that supports CUDA {version}"
