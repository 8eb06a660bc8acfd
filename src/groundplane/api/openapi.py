"""What the routes take and give, for OpenAPI: made when somebody asks, so that the start need not wait for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from groundplane.api.backends import BackendRequest
from groundplane.api.control import ShutdownRequest
from groundplane.api.licences import LicenceRequest
from groundplane.model import documents

JSON, LINES, BYTES = "application/json", "application/jsonl", "application/octet-stream"
Operation = tuple[str, str]


class Problem(BaseModel):
    """RFC 9457, with a stable code, the way out, and whose fault it was."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    fault: str


REPLIES: dict[Operation, tuple[str, Any]] = {
    ("put", "/runs/{run_id}"): (JSON, documents.RunDocument),
    ("post", "/plans"): (JSON, documents.PlanDocument),
    ("post", "/pipelines/compile/{target}"): (JSON, dict[str, str]),
    ("get", "/runs"): (JSON, documents.RunPage),
    ("get", "/runs/{ref}"): (JSON, documents.RunDocument),
    ("post", "/runs/{ref}/cancel"): (JSON, documents.RunDocument),
    ("post", "/runs/{ref}/reruns"): (JSON, documents.RunDocument),
    ("get", "/runs/{ref}/follow"): (LINES, dict[str, Any]),
    ("get", "/runs/{ref}/logs"): (LINES, documents.LogLine),
    ("get", "/runs/{ref}/artifacts"): (JSON, tuple[documents.ArtifactDocument, ...]),
    ("get", "/runs/{ref}/artifacts/{task}/{name}"): (BYTES, bytes),
    ("post", "/environments/lock"): (LINES, dict[str, Any]),
    ("post", "/environments/build"): (LINES, dict[str, Any]),
    ("post", "/environments/pool"): (LINES, dict[str, Any]),
    ("post", "/environments/verify"): (LINES, dict[str, Any]),
    ("post", "/environments/outdated"): (LINES, dict[str, Any]),
    ("post", "/environments/list"): (JSON, tuple[dict[str, Any], ...]),
    ("post", "/environments/show"): (JSON, dict[str, Any]),
    ("post", "/environments/diff"): (JSON, dict[str, Any]),
    ("post", "/environments/attest"): (JSON, dict[str, Any]),
    ("post", "/environments/sbom"): (JSON, dict[str, Any]),
    ("post", "/environments/provenance"): (JSON, dict[str, Any]),
    ("get", "/keys"): (JSON, tuple[dict[str, str], ...]),
    ("get", "/images"): (JSON, tuple[dict[str, Any], ...]),
    ("get", "/images/show"): (JSON, dict[str, Any]),
    ("post", "/images/prune"): (JSON, dict[str, Any]),
    ("post", "/images/push"): (LINES, dict[str, Any]),
    ("get", "/backends"): (JSON, tuple[documents.BackendDocument, ...]),
    ("put", "/backends/{name}"): (JSON, documents.BackendDocument),
    ("delete", "/backends/{name}"): (JSON, dict[str, bool]),
    ("post", "/backends/gc"): (JSON, dict[str, list[str]]),
    ("post", "/backends/{name}/check"): (JSON, documents.BackendDocument),
    ("get", "/licences"): (JSON, tuple[documents.LicenceDocument, ...]),
    ("put", "/licences/{name}"): (JSON, documents.LicenceDocument),
    ("delete", "/licences/{name}"): (JSON, dict[str, bool]),
    ("get", "/toolchains"): (JSON, tuple[documents.ToolchainDocument, ...]),
    ("get", "/toolchains/{name}"): (JSON, dict[str, Any]),
    ("post", "/toolchains/{name}/install"): (LINES, dict[str, Any]),
    ("post", "/doctor"): (JSON, tuple[documents.Finding, ...]),
    ("get", "/status"): (JSON, documents.StatusDocument),
    ("post", "/shutdown"): (JSON, dict[str, bool]),
    ("get", "/events"): (JSON, dict[str, Any]),
    ("get", "/schema"): (JSON, dict[str, Any]),
    ("get", "/health"): (JSON, dict[str, Any]),
}

BODIES: dict[Operation, Any] = {
    ("put", "/runs/{run_id}"): documents.RunRequest,
    ("post", "/plans"): documents.RunRequest,
    ("post", "/pipelines/compile/{target}"): documents.RunRequest,
    ("post", "/runs/{ref}/reruns"): documents.RerunRequest,
    **{operation: documents.EnvironmentRequest for operation in REPLIES if operation[1].startswith("/environments/")},
    ("put", "/backends/{name}"): BackendRequest,
    ("post", "/images/push"): documents.PushRequest,
    ("put", "/licences/{name}"): LicenceRequest,
    ("post", "/doctor"): documents.Context,
    ("post", "/shutdown"): ShutdownRequest,
}

_CREATED = {("put", "/runs/{run_id}"), ("post", "/runs/{ref}/reruns")}
_ACCEPTED = {("post", "/shutdown")}


def describe(app: FastAPI, prefix: str) -> dict[str, Any]:
    """The OpenAPI document, with every reply and body."""
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(title="Groundplane", version=app.version, summary=app.summary, routes=app.routes)
    schemas: dict[str, Any] = {}
    _schema(Problem, schemas)
    for operation, (media, kind) in REPLIES.items():
        described = found["paths"][prefix + operation[1]][operation[0]]
        status = "201" if operation in _CREATED else "202" if operation in _ACCEPTED else "200"
        content = {media: {"schema": _schema(kind, schemas)}}
        described["responses"] = {
            status: {"description": "as asked", "content": content},
            "default": {
                "description": "a problem",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        }
        if operation in BODIES:
            schema = _schema(BODIES[operation], schemas)
            described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    found["components"] = {"schemas": schemas}
    app.openapi_schema = found
    return found


def _schema(kind: Any, into: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a type; what it refers to goes `into` the components."""
    schema = TypeAdapter[Any](kind).json_schema(ref_template="#/components/schemas/{model}")
    into.update(schema.pop("$defs", {}))
    if schema.get("type") == "object" and "title" in schema:
        name = schema["title"]
        into[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}
    return schema
