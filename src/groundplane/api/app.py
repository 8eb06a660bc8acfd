"""The ASGI application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI

from groundplane.api import (
    artifacts,
    backends,
    control,
    environments,
    images,
    licences,
    pipelines,
    problems,
    runs,
    toolchains,
)
from groundplane.api.peers import Gate, make_token
from groundplane.api.streams import Closing
from groundplane.services.platform import Platform

PREFIX = "/api/v1"


def create(platform: Platform, token_file: Path | None = None) -> FastAPI:
    """The API over a platform. Its requests need `state["peer"]` in their scope (api/peers.py). token_file: whoever
    comes over TCP needs what it holds."""
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
    app.add_middleware(Gate, home=platform.home, token_file=token_file, open_path=f"{PREFIX}/health")
    problems.install(app)
    api = APIRouter(prefix=PREFIX)
    for room in (runs, pipelines, artifacts, environments, images, backends, licences, toolchains, control):
        api.include_router(room.router)
    app.include_router(api)
    make_token(platform.home)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        from groundplane.api.openapi import describe

        return describe(self, PREFIX)
