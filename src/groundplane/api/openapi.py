"""What the routes take and give, for OpenAPI: made when somebody asks, so that the start need not wait for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from groundplane.api.actions import ACTIONS
from groundplane.api.artifacts import Declassification
from groundplane.api.audit import ForgetRequest, VerifyRequest
from groundplane.api.backends import BackendRequest
from groundplane.api.connections import ConnectionRequest
from groundplane.api.control import ShutdownRequest
from groundplane.api.labels import LabelsRequest
from groundplane.api.licences import LicenceRequest
from groundplane.api.policies import PolicyRequest, PolicyText, TrialRequest
from groundplane.api.projects import ProjectRequest
from groundplane.api.quotas import QuotaRequest
from groundplane.api.secrets import SecretRequest
from groundplane.api.teams import TeamRequest
from groundplane.api.tokens import TokenRequest
from groundplane.api.users import UserChange, UserRequest
from groundplane.model import accounts, documents

JSON, LINES, BYTES, TEXT = "application/json", "application/jsonl", "application/octet-stream", "text/plain"
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
    ("post", "/folders"): (JSON, dict[str, str]),
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
    ("post", "/runs/{ref}/declassifications"): (JSON, documents.ArtifactDocument),
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
    ("post", "/backends/gc"): (JSON, tuple[documents.GarbageDocument, ...]),
    ("post", "/backends/{name}/check"): (JSON, documents.BackendDocument),
    ("get", "/licences"): (JSON, tuple[documents.LicenceDocument, ...]),
    ("put", "/licences/{name}"): (JSON, documents.LicenceDocument),
    ("delete", "/licences/{name}"): (JSON, dict[str, bool]),
    ("get", "/quotas"): (JSON, tuple[documents.QuotaDocument, ...]),
    ("put", "/quotas"): (JSON, tuple[documents.QuotaDocument, ...]),
    ("delete", "/quotas"): (JSON, dict[str, bool]),
    ("put", "/projects/{name}/labels"): (JSON, dict[str, bool]),
    ("get", "/policies"): (JSON, tuple[dict[str, Any], ...]),
    ("put", "/policies/{name}"): (JSON, dict[str, Any]),
    ("delete", "/policies/{name}"): (JSON, dict[str, bool]),
    ("get", "/policies/schema"): (JSON, dict[str, str]),
    ("post", "/policies/check"): (JSON, dict[str, Any]),
    ("post", "/policies/test"): (JSON, dict[str, Any]),
    ("post", "/policies/simulate"): (JSON, dict[str, Any]),
    ("get", "/policies/explain"): (JSON, dict[str, Any]),
    ("get", "/whoami"): (JSON, accounts.WhoDocument),
    ("get", "/users"): (JSON, tuple[accounts.UserDocument, ...]),
    ("put", "/users/{name}"): (JSON, accounts.UserDocument),
    ("patch", "/users/{name}"): (JSON, accounts.UserDocument),
    ("post", "/users/{name}/disable"): (JSON, accounts.UserDocument),
    ("post", "/users/{name}/enable"): (JSON, accounts.UserDocument),
    ("get", "/teams"): (JSON, tuple[accounts.TeamDocument, ...]),
    ("get", "/teams/{name}"): (JSON, accounts.TeamDocument),
    ("put", "/teams/{name}"): (JSON, accounts.TeamDocument),
    ("put", "/teams/{name}/members/{user}/{role}"): (JSON, accounts.TeamDocument),
    ("delete", "/teams/{name}/members/{user}"): (JSON, accounts.TeamDocument),
    ("get", "/projects"): (JSON, tuple[accounts.ProjectDocument, ...]),
    ("put", "/projects/{name}"): (JSON, accounts.ProjectDocument),
    ("get", "/tokens"): (JSON, tuple[accounts.TokenDocument, ...]),
    ("post", "/tokens"): (JSON, accounts.TokenDocument),
    ("delete", "/tokens/{id}"): (JSON, dict[str, bool]),
    ("get", "/secrets"): (JSON, tuple[documents.SecretDocument, ...]),
    ("put", "/secrets/{name}"): (JSON, documents.SecretDocument),
    ("delete", "/secrets/{name}"): (JSON, dict[str, bool]),
    ("get", "/connections"): (JSON, tuple[documents.ConnectionDocument, ...]),
    ("put", "/connections/{name}"): (JSON, documents.ConnectionDocument),
    ("get", "/connections/{name}"): (JSON, documents.ConnectionDocument),
    ("post", "/connections/{name}/check"): (JSON, documents.ConnectionHealth),
    ("delete", "/connections/{name}"): (JSON, dict[str, bool]),
    ("get", "/toolchains"): (JSON, tuple[documents.ToolchainDocument, ...]),
    ("get", "/toolchains/{name}"): (JSON, dict[str, Any]),
    ("post", "/toolchains/{name}/install"): (LINES, dict[str, Any]),
    ("post", "/doctor"): (JSON, tuple[documents.Finding, ...]),
    ("get", "/status"): (JSON, documents.StatusDocument),
    ("post", "/shutdown"): (JSON, dict[str, bool]),
    ("get", "/audit/events"): (JSON, dict[str, Any]),
    ("get", "/audit/events/{ref}"): (JSON, dict[str, Any]),
    ("get", "/audit/export"): (TEXT, str),
    ("get", "/audit/checkpoint"): (JSON, dict[str, str]),
    ("get", "/audit/key"): (JSON, dict[str, str]),
    ("post", "/audit/verify"): (LINES, dict[str, Any]),
    ("post", "/audit/forget"): (JSON, dict[str, bool]),
    ("get", "/schema"): (JSON, dict[str, Any]),
    ("get", "/health"): (JSON, dict[str, Any]),
}

BODIES: dict[Operation, Any] = {
    ("put", "/runs/{run_id}"): documents.RunRequest,
    ("post", "/plans"): documents.RunRequest,
    ("post", "/pipelines/compile/{target}"): documents.RunRequest,
    ("post", "/runs/{ref}/reruns"): documents.RerunRequest,
    **{operation: documents.EnvironmentRequest for operation in REPLIES if operation[1].startswith("/environments/")},
    ("post", "/runs/{ref}/declassifications"): Declassification,
    ("put", "/backends/{name}"): BackendRequest,
    ("post", "/images/push"): documents.PushRequest,
    ("put", "/licences/{name}"): LicenceRequest,
    ("put", "/quotas"): QuotaRequest,
    ("put", "/projects/{name}/labels"): LabelsRequest,
    ("put", "/policies/{name}"): PolicyText,
    ("post", "/policies/check"): PolicyRequest,
    ("post", "/policies/test"): TrialRequest,
    ("post", "/policies/simulate"): PolicyRequest,
    ("put", "/users/{name}"): UserRequest,
    ("patch", "/users/{name}"): UserChange,
    ("put", "/teams/{name}"): TeamRequest,
    ("put", "/projects/{name}"): ProjectRequest,
    ("post", "/tokens"): TokenRequest,
    ("put", "/secrets/{name}"): SecretRequest,
    ("put", "/connections/{name}"): ConnectionRequest,
    ("post", "/doctor"): documents.Context,
    ("post", "/shutdown"): ShutdownRequest,
    ("post", "/audit/verify"): VerifyRequest,
    ("post", "/audit/forget"): ForgetRequest,
}

_CREATED = {("put", "/runs/{run_id}"), ("post", "/runs/{ref}/reruns"), ("post", "/tokens")}
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
        described["x-action"] = ACTIONS[operation]
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
