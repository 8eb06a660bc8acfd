"""Runs work in containers of a Docker engine; the agent of this host stages, follows and collects.

An attempt is a process of the agent's that stands for its container (docker_container.py): lines, limits of time,
leftovers, tables and outputs are then what they are for any other attempt, and so is what survives a crash.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from groundplane.drivers.agent import AgentDriver
from groundplane.drivers.docker_container import COMMAND
from groundplane.drivers.docker_spec import EXPORTING, HOSTS, PREFIX, SUPPORT, container_name
from groundplane.model.errors import Invalid, Unavailable
from groundplane.oci import archive
from groundplane.oci.address import Address, from_environment, parse
from groundplane.oci.engine import Engine, Refused
from groundplane.spi import files, layout, wire
from groundplane.spi.driver import Changes, Health
from groundplane.spi.images import Image, Progress
from groundplane.spi.launch import Launch, Phase, Place, PrivateFile, Submission

log = logging.getLogger(__name__)

_WORKER = 1000
"""User and group that work runs as where the agent is root: no container's work is."""
_SPEC, _EXPORTS = ".container.json", ".exports"
_BELIEVED = 30.0  # seconds that an image which was there counts as being there
_ANSWERS_WITHIN = 4.0


class DockerDriver(AgentDriver):
    """See `spi.driver.Driver` and `spi.driver.CanRunImages`. name: the backend's. address: as the environment has it
    (DOCKER_HOST) when it is left out."""

    def __init__(self, home: Path, name: str, address: Address | None = None) -> None:
        super().__init__(home, channel=name)
        self._address = address
        self._engines = threading.local()
        self._connected: list[Engine] = []
        self._seen: dict[str, float] = {}
        self._info: Mapping[str, Any] | None = None
        self._swept = False  # whether no container can be left that nobody asks for any more

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
        away = replace(host, ok=False, gpus=0, devices=None, facts={})
        try:
            info = self._info = self._engine.call("GET", "/info")
        except Refused as refused:
            return replace(away, message=f"the engine refuses: {refused.message}")
        except Unavailable as error:
            return replace(away, message=error.message, hint=error.hint)
        cpus = float(info["NCPU"])
        return Health(
            ok=host.ok,
            message=host.message,
            hint=host.hint,
            cpus=min(cpus, host.cpus) if self.address.shares_files else cpus,
            memory=info["MemTotal"],
            gpus=host.gpus if self.address.shares_files else 0,
            devices=host.devices if self.address.shares_files else None,
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

    def changes(self, cursor: str, timeout: float) -> Changes:
        changes = super().changes(cursor, timeout)
        if any(seen.reason is not None and seen.reason.code == "image_missing" for seen in changes.observations):
            self._seen.clear()  # somebody has removed it: what was seen is believed no more
        return changes

    def cleanup(self, attempts: Sequence[str]) -> None:
        try:
            for seen in super().observe(attempts):
                if seen.phase not in (Phase.ACCEPTED, Phase.RUNNING):
                    self._remove(container_name(seen.attempt))
            super().cleanup(attempts)
            if attempts and not self._swept:
                self._sweep()
                self._swept = True
        except Unavailable as error:
            self._swept = False
            if error.code != "backend_unavailable":
                raise
            log.warning("containers not removed, later then error=%s", error.message)
            super().cleanup(attempts)

    def _sweep(self) -> None:
        """Removes the containers of attempts that nobody knows any more: the engine was away when they were to go, or
        this control plane had not begun."""
        wanted = json.dumps({"label": [f"ground.agent={self.site}"]})
        found = self._engine.call("GET", "/containers/json", {"all": 1, "filters": wanted})
        attempts = [each["Labels"]["ground.attempt"] for each in found]
        for seen in super().observe(attempts):
            if seen.phase is Phase.UNKNOWN:
                self._remove(container_name(seen.attempt))

    def _remove(self, name: str) -> None:
        try:
            self._engine.call("DELETE", f"/containers/{name}", {"force": 1, "v": 1})
        except Refused as refused:
            if refused.status not in (404, 409):  # gone, or going
                log.warning("container not removed name=%s error=%s", name, refused.message)

    def close(self) -> None:
        super().close()
        for engine in self._connected:
            engine.close()

    # --- images -------------------------------------------------------------------------------------------------------

    def ping(self) -> None:
        engine = Engine(self.address, silence=_ANSWERS_WITHIN)
        try:
            engine.ping(tries=1)
        except Refused as refused:
            raise Unavailable(
                f"the Docker engine at {self.address.url} refuses: {refused.message}", code="backend_unavailable"
            ) from refused
        finally:
            engine.close()

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
        info = self._known()
        if _is_rootless(info):  # its root is this user
            user, as_root = "0:0", False
        support = str(layout.support(self._home, launch.attempt))
        variables = {**launch.command.env, **launch.env}
        argv, private = launch.command.argv, launch.private
        if launch.confidential:  # an engine writes a container's variables to disk, and what it deletes stays there
            exports = "".join(f"export {name}={shlex.quote(variables.pop(name))}\n" for name in launch.confidential)
            argv = (*EXPORTING, f"{SUPPORT}/{_EXPORTS}", *argv)
            private = (*private, PrivateFile(_EXPORTS, exports, beside=True))
        spec = {
            "url": self.address.url,
            "tls": self.address.tls,
            "image": container.image,
            "argv": argv,
            "attempt": launch.attempt,
            "agent": self.site,
            "tree": str(layout.tree(self._home, launch.attempt)),
            "support": support,
            "verdict": str(layout.verdict(self._home, launch.attempt)),
            "user": user,
            "network": container.network,
            "hosts": self._hosts() if self.address.shares_files and not container.network else "",
            "pinned": resources.cpus is not None and self.address.shares_files,
            "cpus": resources.cpus,
            "memory": resources.memory,
            "told_by_output": bool(launch.command.sentinel),
        }
        command = replace(
            launch.command,
            argv=(sys.executable, *COMMAND, f"{support}/{_SPEC}"),
            env={},
            files={**launch.command.files, _SPEC: wire.encode(spec).decode(errors="surrogateescape")},
        )
        work = {f"{PREFIX}{name}": value for name, value in variables.items()}
        return replace(
            launch,
            command=command,
            env={**_OWN, **work},
            private=private,
            confidential=(),
            channel=self._channel_name,
            proxy=True,
            owner=_WORKER if as_root and self.address.shares_files else None,
            place=None if self.address.shares_files else Place(float(info["NCPU"]), info["MemTotal"]),
        )

    def _hosts(self) -> str:
        """The file with `HOSTS`."""
        path = layout.hosts(self._home)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The work reads it as another user, and it is never written again.
            files.write(path, HOSTS.encode(), mode=0o644, durable=True)
        return str(path)

    @cached_property
    def address(self) -> Address:
        """Raises Invalid where the environment's is none."""
        return self._address or from_environment(os.environ)

    def _known(self) -> Mapping[str, Any]:
        """What the engine says of itself, as it was when it was last asked. Raises Unavailable."""
        info = self._info
        if info is None:
            try:
                info = self._info = self._engine.call("GET", "/info")
            except Refused as refused:
                raise Unavailable(f"the Docker engine refuses: {refused.message}", code="backend_unavailable") from None
        return info

    @property
    def _engine(self) -> Engine:
        """This thread's own."""
        found: Engine | None = getattr(self._engines, "engine", None)
        if found is None:
            found = self._engines.engine = Engine(self.address)
            self._connected.append(found)
        return found


_OWN = {name: os.environ[name] for name in ("HOME", "SSH_AUTH_SOCK") if name in os.environ} | {
    "PATH": os.environ.get("PATH", os.defpath)
}
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
