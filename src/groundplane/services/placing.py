"""Where each step of a plan runs: on which backend, and in which environment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from groundplane.model.documents import RunRequest
from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid
from groundplane.model.locks import Lock
from groundplane.model.pipelines import Step
from groundplane.services import environments, plans
from groundplane.services.plans import Placement, PlannedEngine
from groundplane.services.platform import Platform
from groundplane.services.spec import Project
from groundplane.services.spec.problems import listed, meant
from groundplane.spi import layout
from groundplane.store import documents
from groundplane.toolchains import versions

DEFAULT_BACKEND = "local"


class Places:
    """The places of one plan's steps. names: every project file's sha256. warnings: what the caller should know about
    the environments."""

    def __init__(
        self, platform: Platform, request: RunRequest, project: Project | None, names: Mapping[str, str]
    ) -> None:
        self.warnings: list[str] = []
        self._platform = platform
        self._request = request
        self._project = project
        self._names = names
        self._locks: Mapping[str, Lock] | None = None
        self._warned: set[str] = set()
        if request.runs_in is not None:
            self._declared(request.runs_in, "--env")

    def of(self, step: Step) -> tuple[Placement, Environment | None, Lock | None]:
        """Where the step runs, in which environment, and what that is locked to. The command line counts most, then the
        step, then the project."""
        project, asked = self._project, self._request
        name = asked.runs_in or step.runs_in or (project.environment if project else None)
        chosen = self._declared(name, f"step {step.name!r}") if name else None
        backend = asked.backend or step.on or (project.on if project else None) or DEFAULT_BACKEND
        site = self._platform.driver(backend).site
        if chosen is None:
            return Placement(backend, site), None, None
        if not _licensed(chosen):
            raise Invalid(
                f"environment {chosen.name!r} is an image, and backend {backend!r} runs what is installed there",
                hint="no backend runs images yet; leave the environment away, or name a licensed engine's",
                code="no_images",
            )
        wanted = environments.definition(chosen, self._names.get, Path(self._request.folder))
        lock = self._locks_of_project().get(chosen.name)
        if lock is not None:
            environments.check_fresh(lock, wanted)
        self._warn(chosen, lock)
        return Placement(backend, site, chosen.name, self._stored(lock)), chosen, lock

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
        if lock is None:
            attest = f"ground env attest {chosen.name} --installer FILE"
            self.warnings.append(f"environment {chosen.name!r} is not in ground.lock: `{attest}` notes what it is")
        engine, version = (lock.engine, lock.version) if lock else (chosen.engine or chosen.toolchain, chosen.version)
        if warning := versions.support_warning(engine, version, datetime.now(UTC).date()):
            self.warnings.append(warning)

    def _stored(self, lock: Lock | None) -> str:
        if lock is None:
            return ""
        database, body = self._platform.database, plans.lock_document(lock)
        digest = hashlib.sha256(body).hexdigest()
        with database.read() as connection:
            known = documents.get(connection, digest) is not None
        if not known:  # a write for every plan would cost more than the plan
            with database.write() as connection:
                documents.put(connection, body)
        return digest


def engine_of(chosen: Environment) -> str:
    """The engine that the environment is about."""
    return versions.match(chosen.engine or chosen.toolchain, chosen.version).engine


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


def _licensed(chosen: Environment) -> bool:
    """Whether it is an engine that its owner has installed: of all others there are images."""
    if not chosen.toolchain:
        return False
    return versions.match(chosen.engine or chosen.toolchain, chosen.version).licensed
