"""Runs work in containers of a Docker engine; the agent of this host stages, follows and collects.

An attempt is a process of the agent's that stands for its container (docker_container.py): lines, limits of time,
leftovers, tables and outputs are then what they are for any other attempt, and so is what survives a crash.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from groundplane.drivers.agent import AgentDriver
from groundplane.drivers.docker_container import COMMAND, PREFIX, SUPPORT, container_name
from groundplane.model.errors import Invalid, Unavailable
from groundplane.oci import archive
from groundplane.oci.address import Address, from_environment, parse
from groundplane.oci.engine import Engine, Refused
from groundplane.spi import layout, wire
from groundplane.spi.driver import Health
from groundplane.spi.images import Image, Progress
from groundplane.spi.launch import Launch, Submission

log = logging.getLogger(__name__)

_WORKER = 1000
"""User and group that work runs as where the agent is root: no container's work is."""
_SPEC = ".container.json"
_BELIEVED = 30.0  # seconds that an image which was there counts as being there


class DockerDriver(AgentDriver):
    """See `spi.driver.Driver` and `spi.driver.CanRunImages`. name: the backend's. address: as the environment has it
    (DOCKER_HOST) when it is left out."""

    def __init__(self, home: Path, name: str, address: Address | None = None) -> None:
        super().__init__(home, channel=name)
        self._address = address
        self._engines = threading.local()
        self._seen: dict[str, float] = {}
        self._leftover: set[str] = set()

    @staticmethod
    def configured(home: Path, name: str, options: Mapping[str, str]) -> DockerDriver:
        """A backend that somebody adds. options: host, and tls for one that asks for a certificate."""
        unknown = sorted(set(options) - {"host", "tls"})
        if unknown or not options.get("host"):
            what = f"knows no {', '.join(unknown)}" if unknown else "needs the address of its engine"
            raise Invalid(f"driver 'docker' {what}", hint="--host URL, and --tls DIR where the engine asks for it")
        return DockerDriver(home, name, parse(options["host"], options.get("tls", "")))

    def check(self) -> Health:
        host = self._health()
        try:
            info = self._engine.call("GET", "/info")
        except Refused as refused:
            return replace(host, ok=False, message=f"the engine refuses: {refused.message}", facts={})
        except Unavailable as error:
            return replace(host, ok=False, message=error.message, hint=error.hint, facts={})
        self.__dict__["_rootless"] = _is_rootless(info)
        cpus = float(info["NCPU"])
        return Health(
            ok=host.ok,
            message=host.message,
            hint=host.hint,
            cpus=min(cpus, host.cpus) if self.address.shares_files else cpus,
            memory=info["MemTotal"],
            gpus=host.gpus if self.address.shares_files else 0,
            facts={
                "engine": f"{info['ServerVersion']} at {self.address.url}",
                "limits": f"enforced by cgroup v{info['CgroupVersion']}"
                if info["MemoryLimit"]
                else "memory is not enforced",
                "working copies": host.facts.get("working copies", "")
                if self.address.shares_files
                else "carried to the engine and back",
                "restart": "containers outlive the engine"
                if info["LiveRestoreEnabled"]
                else "containers end with the engine, and are run again",
            },
        )

    def support(self, attempt: str) -> str:
        return SUPPORT

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        return super().submit([self._proxied(launch) for launch in launches])

    def cleanup(self, attempts: Sequence[str]) -> None:
        super().cleanup(attempts)
        self._leftover.update(container_name(attempt) for attempt in attempts)
        for name in sorted(self._leftover):
            try:
                self._engine.call("DELETE", f"/containers/{name}", {"force": 1, "v": 1})
            except Refused as refused:
                if refused.status not in (404, 409):  # gone, or going
                    log.warning("container not removed name=%s error=%s", name, refused.message)
            except Unavailable as error:  # with the next one
                log.warning("containers not removed count=%d error=%s", len(self._leftover), error.message)
                return
            self._leftover.discard(name)

    # --- images -------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        try:
            self._engine.call("GET", "/version")
        except Refused as refused:
            raise Unavailable(
                f"the Docker engine at {self.address.url} refuses: {refused.message}", code="backend_unavailable"
            ) from refused

    def image_name(self, image: Image) -> str:
        return image.reference

    def has(self, image: Image) -> bool:
        return time.monotonic() - self._seen.get(image.reference, -_BELIEVED) < _BELIEVED or self._look(image)

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        if self._look(image):
            return
        progress(f"loading {image.reference} into the Docker engine")
        try:
            for _ in self._engine.events("POST", "/images/load", {"quiet": 1}, _checked(archive.saved(image, blobs))):
                pass
        except Refused as refused:
            full = "no space left" in refused.message
            raise Unavailable(
                f"{image.reference} could not be loaded into the Docker engine: {refused.message}",
                hint="make space on the engine's disk" if full else "the engine's log may say more",
                code="no_space" if full else "image_missing",
            ) from refused
        if not self._look(image):
            raise Unavailable(f"the Docker engine took {image.reference} and does not have it", code="image_missing")

    def drop(self, image: Image) -> None:
        self._seen.pop(image.reference, None)
        try:
            self._engine.call("DELETE", f"/images/{image.reference}")
        except Refused as refused:
            if refused.status not in (404, 409):  # it is not there; or a container still has it
                raise Unavailable(f"{image.reference} stays in the Docker engine: {refused.message}") from refused

    def _look(self, image: Image) -> bool:
        try:
            found = self._engine.call("GET", f"/images/{image.reference}/json")
        except Refused:
            self._seen.pop(image.reference, None)
            return False
        if found["RootFS"].get("Layers", []) != [f"sha256:{layer.diff}" for layer in image.layers]:
            return False
        self._seen[image.reference] = time.monotonic()
        return True

    # --- launches -----------------------------------------------------------------------------------------------------

    def _proxied(self, launch: Launch) -> Launch:
        """The launch of the process that stands for the container."""
        container, resources = launch.container, launch.resources
        if container is None:
            raise TypeError(f"attempt {launch.attempt} has no image to run in")
        as_root = os.geteuid() == 0
        user = f"{_WORKER}:{_WORKER}" if as_root else f"{os.getuid()}:{os.getgid()}"
        if self._rootless:  # its root is this user
            user, as_root = "0:0", False
        support = str(layout.support(self._home, launch.attempt))
        spec = {
            "url": self.address.url,
            "tls": self.address.tls,
            "image": container.image,
            "argv": launch.command.argv,
            "attempt": launch.attempt,
            "agent": self.site,
            "tree": str(layout.tree(self._home, launch.attempt)),
            "support": support,
            "verdict": str(layout.verdict(self._home, launch.attempt)),
            "user": user,
            "network": container.network,
            "pinned": resources.cpus is not None and self.address.shares_files,
            "cpus": resources.cpus,
            "memory": resources.memory,
            "grace": launch.grace,
        }
        command = replace(
            launch.command,
            argv=(sys.executable, *COMMAND, f"{support}/{_SPEC}"),
            env={},
            files={**launch.command.files, _SPEC: wire.encode(spec).decode(errors="surrogateescape")},
        )
        work = {f"{PREFIX}{name}": value for name, value in {**launch.command.env, **launch.env}.items()}
        return replace(
            launch,
            command=command,
            env={**_OWN, **work},
            channel=self._channel_name,
            proxy=True,
            owner=_WORKER if as_root else None,
        )

    @cached_property
    def address(self) -> Address:
        """Raises Invalid where the environment's is none."""
        return self._address or from_environment(os.environ)

    @cached_property
    def _rootless(self) -> bool:
        try:
            return _is_rootless(self._engine.call("GET", "/info"))
        except (Unavailable, Refused):
            return False

    @property
    def _engine(self) -> Engine:
        """This thread's own."""
        found: Engine | None = getattr(self._engines, "engine", None)
        if found is None:
            found = self._engines.engine = Engine(self.address)
        return found


_OWN = {name: os.environ[name] for name in ("HOME", "SSH_AUTH_SOCK") if name in os.environ} | {"PATH": os.defpath}
"""What the process that stands for a container has for itself (ssh needs it): none of it reaches the work."""


def _is_rootless(info: Mapping[str, Any]) -> bool:
    return any("name=rootless" in option for option in info.get("SecurityOptions") or ())


def _checked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A blob that cannot be read is no fault of the connection."""
    try:
        yield from pieces
    except OSError as error:
        raise Unavailable(
            f"the image's own files cannot be read: {error}", hint="ground env verify", code="image_damaged"
        ) from error
