"""Whether what a connection leads to answers, as seen from the control plane."""

from __future__ import annotations

from groundplane.model.documents import ConnectionHealth
from groundplane.model.errors import GroundError
from groundplane.model.reasons import Reason
from groundplane.services import connections, gate, querying
from groundplane.services.access import Actor
from groundplane.services.connections import Opened
from groundplane.services.platform import Platform
from groundplane.services.reasons import of_error
from groundplane.services.secrets import belonging
from groundplane.spi.blobs import open_store


def check(platform: Platform, actor: Actor, name: str, project: str | None) -> ConnectionHealth:
    """Uses its password, and so is an event. Raises NotFound, Invalid and Unavailable for what cannot be tried."""
    on = belonging(platform, "connection", name, project)
    with gate.change(platform, actor, "connection.check", name, on, project=project) as connection:
        opened = connections.open_(platform, connection, project or "", name)
    failed = querying.probe(opened) if opened.target.is_database else _bucket(opened)
    if failed is None:
        return ConnectionHealth(name, True, "it answers")
    return ConnectionHealth(name, False, failed.message, failed.hint)


def _bucket(opened: Opened) -> Reason | None:
    target = opened.target
    variables = {
        "AWS_ACCESS_KEY_ID": target.user,
        "AWS_SECRET_ACCESS_KEY": opened.password or "",
        "AWS_ENDPOINT_URL": target.options.get("endpoint_url", ""),
        "AWS_REGION": target.options.get("region", ""),
    }
    try:
        store = open_store(f"s3://{target.name}", {key: value for key, value in variables.items() if value})
        next(iter(store.listing("")), None)
    except GroundError as error:
        return of_error(error)
    return None
