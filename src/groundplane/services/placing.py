"""Where each step of a plan runs: on which backend, and in which environment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from groundplane.model.documents import RunRequest
from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid
from groundplane.model.locks import Lock
from groundplane.model.pipelines import Step
from groundplane.services import bringing, environments, plans, shelf
from groundplane.services.plans import Placement, PlannedEngine
from groundplane.services.platform import Platform
from groundplane.services.spec import Project
from groundplane.services.spec.problems import listed, meant
from groundplane.spi import layout
from groundplane.spi.driver import RunsPipelines
from groundplane.spi.toolchain import EngineSpec, Toolchain
from groundplane.store import documents
from groundplane.toolchains import versions

DEFAULT_BACKEND = "local"


class Places:
    """The places of one plan's steps. names: every project file's sha256. chosen: by step, of those that run in one."""

    def __init__(
        self, platform: Platform, request: RunRequest, project: Project | None, names: Mapping[str, str]
    ) -> None:
        self.chosen: dict[str, tuple[Environment, Lock | None]] = {}
        self._platform = platform
        self._request = request
        self._project = project
        self._names = names
        self._locks: Mapping[str, Lock] | None = None
        self._warnings: list[str] = []
        self._warned: set[str] = set()
        self._unlocked: list[str] = []
        if request.runs_in is not None:
            self._declared(request.runs_in, "--env")

    def of(self, step: Step, toolchain: str) -> tuple[Placement, Environment | None, Lock | None]:
        """Where the step runs, in which environment, and what that is locked to. The command line counts most, then the
        step, then the project. toolchain: the step's, or the engine that was asked for by name."""
        project, asked = self._project, self._request
        backend = asked.backend or step.on or (project.on if project else None) or DEFAULT_BACKEND
        driver = self._platform.driver(backend)
        if isinstance(driver, RunsPipelines):  # its own images are found when the pipeline is compiled
            wanted = self.image_for(step, toolchain)
            lock = self.locked(wanted)[1]
            found = Placement(backend, driver.site, wanted.name, self._stored(lock)), wanted, lock
        elif bringing.driver_of(self._platform, backend) is not None:
            found = self._in_image(step, backend, self.image_for(step, toolchain))
        else:
            found = self._installed(step, backend, self.environment(step))
        if found[1] is not None:
            self.chosen[step.name] = found[1], found[2]
        return found

    @property
    def warnings(self) -> list[str]:
        """What the caller should know about the environments, in a line each."""
        match self._unlocked:
            case []:
                return list(self._warnings)
            case [name]:
                told = f"environment {name!r} is not in ground.lock: `ground env lock {name}` keeps what it is now"
            case names:
                named = ", ".join(map(repr, names))
                told = f"environments {named} are not in ground.lock: `ground env lock` keeps what they are now"
        return [told, *self._warnings]

    def environment(self, step: Step) -> Environment | None:
        """The one that is asked for, by whoever counts most."""
        project = self._project
        name = self._request.runs_in or step.runs_in or (project.environment if project else None)
        return self._declared(name, f"step {step.name!r}") if name else None

    def image_for(self, step: Step, toolchain: str) -> Environment:
        """The environment whose image the step runs in, where it runs in one: the one that is asked for, else the
        project's own for the toolchain, else the catalogue's, which has no name."""
        if chosen := self.environment(step):
            return chosen
        fitting = environments.images_for(toolchain, self._project.environments.values() if self._project else ())
        if len(fitting) > 1:
            names = [each.name for each in fitting]
            raise Invalid(
                f"step {step.name!r} says no environment, and ground.toml has {len(names)} for {toolchain}",
                hint=f"say which, with `environment = ` in the step or --env: {listed(names)}",
            )
        return fitting[0] if fitting else Environment(name="", toolchain=toolchain)

    def locked(self, chosen: Environment) -> tuple[str, Lock | None]:
        """The environment's definition as it is now, and what the project's lock file holds of it, for just that."""
        definition = environments.definition(chosen, self._names.get, Path(self._request.folder))
        lock = self._locks_of_project().get(chosen.name) if chosen.name else None
        if lock is not None:
            environments.check_fresh(lock, definition)
        return definition, lock

    def _installed(
        self, step: Step, backend: str, chosen: Environment | None
    ) -> tuple[Placement, Environment | None, Lock | None]:
        """On a backend that runs what is installed there."""
        site, network = self._platform.driver(backend).site, self._network(step)
        if chosen is None:
            return Placement(backend, site, network=network), None, None
        if not environments.licensed(chosen):
            raise Invalid(
                f"environment {chosen.name!r} is an image, and backend {backend!r} runs what is installed there",
                hint="run it where images run: --on docker",
                code="no_images",
            )
        _, lock = self.locked(chosen)
        self._warn(chosen, lock)
        return Placement(backend, site, chosen.name, self._stored(lock), network=network), chosen, lock

    def _in_image(
        self, step: Step, backend: str, wanted: Environment
    ) -> tuple[Placement, Environment | None, Lock | None]:
        """On a backend that runs images."""
        definition, lock = self.locked(wanted)
        if lock is not None and lock.attested:
            raise Invalid(
                f"environment {wanted.name!r} is a licensed engine that is installed somewhere: it has no image",
                hint='run it there (--on local), or name an image that has it: image = "…"',
                code="no_images",
            )
        if lock is None:
            environments.recipe(wanted, None)  # raises for what no builder could make
            lock = shelf.resolved(self._platform.home, definition)
        if wanted.name:
            self._warn(wanted, lock)
        placed = Placement(
            backend,
            self._platform.driver(backend).site,
            wanted.name,
            self._stored(lock),
            image=wanted,
            definition=definition,
            network=self._network(step),
        )
        return placed, wanted, lock

    def said_network(self, step: Step) -> bool | None:
        """Whether it may reach one, as the step or else the project says; None where neither does."""
        return step.network if step.network is not None or self._project is None else self._project.network

    def _network(self, step: Step) -> bool:
        """Whether it may reach one, where work is kept from it."""
        return bool(self.said_network(step))

    def _declared(self, name: str, who: str) -> Environment:
        known: Mapping[str, Environment] = self._project.environments if self._project else {}
        if name not in known:
            hint = f"its environments: {listed(known)}" if known else "add it to ground.toml beside the script"
            raise Invalid(f"{who}: ground.toml has no environment {name!r}{meant(name, known)}", hint=hint)
        return known[name]

    def _locks_of_project(self) -> Mapping[str, Lock]:
        if self._locks is None:
            sha256 = self._names.get(environments.LOCK_FILE)
            text = layout.blob(self._platform.home, sha256).read_text(encoding="utf-8") if sha256 else ""
            self._locks = environments.read(text) if text else {}
        return self._locks

    def _warn(self, chosen: Environment, lock: Lock | None) -> None:
        if chosen.name in self._warned:
            return
        self._warned.add(chosen.name)
        if chosen.name not in self._locks_of_project():
            if environments.licensed(chosen):
                cure = f"`ground env attest {chosen.name} --installer FILE` notes what it is"
                self._warnings.append(f"environment {chosen.name!r} is not in ground.lock: {cure}")
            else:
                self._unlocked.append(chosen.name)
        engine, version = (lock.engine, lock.version) if lock else (chosen.engine or chosen.toolchain, chosen.version)
        if engine and (warning := versions.support_warning(engine, version, datetime.now(UTC).date())):
            self._warnings.append(warning)

    def _stored(self, lock: Lock | None) -> str:
        if lock is None:
            return ""
        digest = plans.lock_digest(lock)
        with self._platform.database.read() as connection:
            known = documents.get(connection, digest) is not None
        if not known:  # a write for every plan would cost more than the plan
            with self._platform.database.write() as connection:
                plans.store_lock(connection, lock)
        return digest


def inside(
    toolchain: Toolchain, head: bytes, command: tuple[str, ...], chosen: Environment, engine: str | None
) -> EngineSpec:
    """Which engine of the toolchain runs in that environment: the one asked for, the environment's, else the first that
    needs no licence."""
    specs = toolchain.engines_for(head, command)
    wanted = engine or chosen.engine
    if not wanted and chosen.toolchain:
        wanted = environments.match(chosen).engine
    elif not wanted and chosen.image:
        wanted = versions.engine_of_image(chosen.image)
    free = [spec for spec in specs if not versions.is_licensed(spec.name)]
    return next((spec for spec in specs if spec.name == wanted), (free or list(specs))[0])


def check_version(chosen: Environment, lock: Lock | None, found: PlannedEngine) -> None:
    """Raises Invalid where the engine found here is not the one that its owner attested, or of another version."""
    wanted = lock.version if lock else ""
    if found.missing or not found.version:
        return
    if not versions.satisfies(found.version, chosen.version) or (wanted and wanted != found.version):
        attest = f", or attest this one: ground env attest {chosen.name} --installer FILE" if lock else ""
        raise Invalid(
            f"environment {chosen.name!r} is {found.name} {wanted or chosen.version}; {found.path} is {found.version}",
            hint=f"put the other version first on PATH{attest}",
            code="wrong_version",
        )
