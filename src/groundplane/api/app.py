"""The ASGI application."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI

from groundplane.api import (
    artifacts,
    audit,
    auth,
    backends,
    connections,
    control,
    environments,
    folders,
    images,
    labels,
    licences,
    pipelines,
    policies,
    problems,
    projects,
    quotas,
    runs,
    secrets,
    teams,
    tokens,
    toolchains,
    users,
)
from groundplane.api.peers import Doors, Gate
from groundplane.api.streams import Closing
from groundplane.services.platform import Platform

PREFIX = "/api/v1"


def create(platform: Platform, doors: Doors | None = None) -> FastAPI:
    """The API over a platform, and the page to log in. Its requests need `state["peer"]` in their scope
    (api/peers.py). doors: how it listens over TCP."""
    doors = doors or Doors()
    app = _App(
        title="Groundplane",
        version=platform.version,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.platform = platform
    app.state.closing = Closing()
    app.add_middleware(artifacts.Names)
    app.state.logins = auth.Logins(platform, doors)
    app.add_middleware(Gate, platform=platform, doors=doors)
    problems.install(app)
    api = APIRouter(prefix=PREFIX)
    work = (folders, runs, pipelines, artifacts, labels, environments, images, secrets, connections)
    people = (users, teams, projects, tokens)
    for room in (*work, backends, licences, quotas, policies, toolchains, *people, audit, control):
        api.include_router(room.router)
    app.include_router(api)
    app.include_router(auth.router)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        from groundplane.api.openapi import describe

        return describe(self, PREFIX)
