"""Whether what a connection leads to answers, as seen from the control plane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

from groundplane.model.connections import UNANSWERED, UNANSWERED_HINT
from groundplane.model.documents import ConnectionHealth
from groundplane.model.errors import GroundError
from groundplane.model.reasons import Fault, Reason
from groundplane.services import connections, gate, querying
from groundplane.services.access import Actor
from groundplane.services.connections import Opened
from groundplane.services.platform import Platform
from groundplane.services.reasons import of_error
from groundplane.services.secrets import belonging
from groundplane.spi.blobs import open_store

_CERTIFICATES = "AWS_CA_BUNDLE"
_SECONDS = 10.0
"""How long a bucket that a stranger named may take to answer, and how long it always takes not to."""


def check(platform: Platform, actor: Actor, name: str, project: str | None) -> ConnectionHealth:
    """Uses its password, and so is an event. Raises NotFound, Invalid and Unavailable for what cannot be tried."""
    on = belonging(platform, "connection", name, project)
    with gate.change(platform, actor, "connection.check", name, on, project=project) as connection:
        opened = connections.open_(platform, connection, project or "", name)
    if opened.target.is_database:
        failed = querying.probe(platform, opened)
    else:
        failed = _bucket(opened) if opened.to_this_host else _outside(opened)
    if failed is None:
        return ConnectionHealth(name, True, "it answers")
    return ConnectionHealth(name, False, failed.message, failed.hint)


def _bucket(opened: Opened) -> Reason | None:
    try:
        next(iter(open_store(f"s3://{opened.target.name}", _variables(opened)).listing("")), None)
    except GroundError as error:
        return of_error(error)
    return None


def _outside(opened: Opened) -> Reason | None:
    """The same for a bucket that a stranger named; however it fails to answer, it takes the same time."""
    began = time.monotonic()
    argv = [sys.executable, "-I", "-m", "groundplane.services.bucket_probing"]
    request = json.dumps({"url": f"s3://{opened.target.name}", "variables": _variables(opened)})
    found: dict[str, str] = {"message": UNANSWERED, "hint": UNANSWERED_HINT}
    with suppress(subprocess.TimeoutExpired, ValueError):
        done = subprocess.run(
            argv,
            input=request.encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            cwd="/",
            env=_environment(),
        )
        found = json.loads(done.stdout)
    if not found:
        return None
    if own := found.get("own"):
        return connections.not_here(opened.name, own)
    if found["message"] == UNANSWERED:
        time.sleep(max(0.0, began + _SECONDS - time.monotonic()))
    return Reason("storage_unavailable", found["message"], found["hint"], Fault.BACKEND)


def _environment() -> dict[str, str]:
    """The control plane's, without what would make its own credentials a stranger's."""
    return {name: value for name, value in os.environ.items() if name == _CERTIFICATES or not name.startswith("AWS_")}


def _variables(opened: Opened) -> dict[str, str]:
    target = opened.target
    variables = {
        "AWS_ACCESS_KEY_ID": target.user,
        "AWS_SECRET_ACCESS_KEY": opened.password or "",
        "AWS_ENDPOINT_URL": target.options.get("endpoint_url", ""),
        "AWS_REGION": target.options.get("region", ""),
    }
    return {key: value for key, value in variables.items() if value}
