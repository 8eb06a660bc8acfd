"""What a work's container is to be, as the agent's process for it is told, and as the engine's API takes it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from groundplane.oci.address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "GROUND_WORK_"
"""Before the names of the work's variables, which the process has as its own."""
ABOVE = "/ground"
WORK, SUPPORT = f"{ABOVE}/work", f"{ABOVE}/support"
EXPORTING = ("/bin/sh", "-c", '. "$0"; exec "$@"')
"""What goes before the command of work whose variables hold secrets: they come from a file, whose path follows."""
HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
"""`/etc/hosts` of a container without a network, as Docker itself writes it."""
_SHARED_MEMORY = 1 << 30
"""Bytes that `/dev/shm` may hold: the engine's 64 MiB are too few for what shares arrays between processes."""
_LARGEST_LOG = "1000g"
"""Never reached: the engine's log is only read where its stream broke, and must then have it all."""


class Spec:
    """A JSON object with all of these names.

    tree, support: folders of this host, mounted where the engine shares its files. verdict: file. user: as `User` of
    the engine's API. hosts: file that makes the engine's own network "none" needless, which is no more than a loopback
    and takes longer to set up than all the rest of a container; "" where that is asked for. pinned: to the cores that
    this process may use. told_by_output: a line of its output tells whether the work succeeded.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.address = Address(body["url"], body["tls"])
        self.image: str = body["image"]
        self.argv: list[str] = body["argv"]
        self.attempt: str = body["attempt"]
        self.agent: str = body["agent"]
        self.tree: str = body["tree"]
        self.support: str = body["support"]
        self.verdict: str = body["verdict"]
        self.user: str = body["user"]
        self.network: bool = body["network"]
        self.hosts: str = body.get("hosts", "")  # a control plane from before it may have written this
        self.pinned: bool = body["pinned"]
        self.cpus: float | None = body["cpus"]
        self.memory: int | None = body["memory"]
        self.told_by_output: bool = body["told_by_output"]

    @property
    def folders(self) -> dict[str, str]:
        """Path in the container -> folder of this host."""
        return {WORK: self.tree, SUPPORT: self.support}

    @property
    def name(self) -> str:
        """The container's."""
        return container_name(self.attempt)

    @property
    def task(self) -> str:
        """The attempt without its number."""
        return self.attempt.rpartition(".")[0] or self.attempt


def container_name(attempt: str) -> str:
    """What an attempt's container is called."""
    return f"ground-{attempt}"


def container(spec: Spec) -> dict[str, Any]:
    """The container as the engine's API describes it, with the variables that this process has for it. Raises
    UnicodeEncodeError for bytes that are no text: the API's JSON has no place for them."""
    env = {"HOME": "/tmp"}  # noqa: S108
    env |= {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    env |= {"GROUND_ATTEMPT": spec.attempt, "TMPDIR": f"{SUPPORT}/tmp"}  # noqa: S108
    for text in (*spec.argv, *env.values()):
        text.encode()
    host: dict[str, Any] = {
        "NetworkMode": "bridge" if spec.network else "none",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108
        "ShmSize": _SHARED_MEMORY,
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "UsernsMode": "host",
        "LogConfig": {"Type": "local", "Config": {"max-size": _LARGEST_LOG, "max-file": "1", "compress": "false"}},
    }
    if spec.address.shares_files:
        host["Mounts"] = [_bind(source, target) for target, source in spec.folders.items()]
        if spec.hosts:
            host["Mounts"].append({**_bind(spec.hosts, "/etc/hosts"), "ReadOnly": True})
    else:
        host["Mounts"] = [{"Type": "volume", "Target": ABOVE}]
    if spec.cpus:
        host["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.memory:
        host |= {"Memory": spec.memory, "MemorySwap": spec.memory}
    cores = sorted(os.sched_getaffinity(0))
    if spec.pinned:
        host["CpusetCpus"] = ",".join(map(str, cores))
    if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
        host["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": devices.split(","), "Capabilities": [["gpu"]]}]
    return {
        "Image": spec.image,
        "Entrypoint": [spec.argv[0]],
        "Cmd": list(spec.argv[1:]),
        "Env": [f"{name}={value}" for name, value in env.items()],
        "User": spec.user,
        "WorkingDir": WORK,
        "NetworkDisabled": bool(spec.hosts),
        "AttachStdout": True,
        "AttachStderr": True,
        "Labels": {"ground.attempt": spec.attempt, "ground.task": spec.task, "ground.agent": spec.agent},
        "HostConfig": host,
    }


def _bind(source: str, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target}
