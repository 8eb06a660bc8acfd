"""Between the two containers of a pod, and between the pod and its driver.

Both containers share the process namespace, a user id and one volume, BASE. In BASE/ctl lie five named pipes:
`go` (the agent's word to the work's container), `exit` (the answers), `out` and `err` (what the work prints) and
`stop` (a line in it ends the work: a preStop hook's). BASE/home is a GROUND_HOME of this attempt alone.

The agent's order is a JSON object: `launch` (spi/wire), `snapshot` (signed URL of a tar of `snapshots/DIGEST.json`
and `blobs/sha256/…`, or ""), `inputs` (sha256 -> signed URL) and `result` (a signed URL to PUT a tar to:
`observation.json`, `log.seg` and `blobs/SHA256` for each distinct output). Where an attempt has several nodes, each of
them a pod with the same order, there are `results` instead, one for each, and `master`: the name of the first one's
host. A pod knows its own number by the variable INDEX.

It tells one JSON object a line: `{"t": "started", "at": µs}`, `{"t": "log", "from": offset, "data": base64}` (bytes of
the log segment) and at last `{"t": "ended", "observation": …, "log_size": bytes, "uploaded": bool}`.
"""

from __future__ import annotations

PIPES = ("out", "err", "exit", "stop", "go")
"""`go` is the last: whoever sees it may use them all."""

MAIN = (
    "sh",
    "-c",
    'while [ ! -p "$0/ctl/go" ]; do :; done; IFS= read -r ground__said <"$0/ctl/go" || exit 125; . "$0/ctl/start"',
)
"""What the work's container runs, BASE added: nothing but builtins of a POSIX shell, for it need not have more.

125: the agent is gone before anything has begun.
"""

STOP = ("sh", "-c", 'echo stop >"$0/ctl/stop"')
"""What ends the work in time when the pod is deleted: a preStop hook's command, BASE added."""


INDEX = "JOB_COMPLETION_INDEX"
"""The variable that has a pod's number, from 0, where an attempt has several: the cluster sets it in all containers."""

MASTER_PORT = 29500
"""Where the nodes of an attempt meet on the first one's host: torchrun's own default."""


def rendezvous(master: str, nodes: int, index: int, processes: int) -> dict[str, str]:
    """The variables by which nodes find each other: torchrun's options (`PET_…`), and those of `env://`, for a program
    that is started without it. processes: how many torchrun starts on each node."""
    port = str(MASTER_PORT)
    return {
        "MASTER_ADDR": master,
        "MASTER_PORT": port,
        "WORLD_SIZE": str(nodes),
        "RANK": str(index),
        "LOCAL_RANK": "0",
        "NNODES": str(nodes),
        "NODE_RANK": str(index),
        "PET_NNODES": str(nodes),
        "PET_NODE_RANK": str(index),
        "PET_NPROC_PER_NODE": str(processes),
        "PET_MASTER_ADDR": master,
        "PET_MASTER_PORT": port,
    }


def agent(base: str, order: str) -> tuple[str, ...]:
    """The command of the agent's container."""
    return ("python3", "-I", "-m", "groundplane.agent.pod", base, order)


def control(base: str) -> str:
    """The folder of the pipes."""
    return f"{base}/ctl"


def home(base: str) -> str:
    """The GROUND_HOME of this attempt."""
    return f"{base}/home"
