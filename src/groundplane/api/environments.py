"""Environments: locked, built, pooled, shown; what takes long tells how far it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.api.working import working
from groundplane.model.documents import EnvironmentRequest
from groundplane.services import attesting, environment_views, locking

router = APIRouter(tags=["environments"])

Wanted = Annotated[EnvironmentRequest, Depends(body(EnvironmentRequest))]


@router.post("/environments/lock")
def lock(platform: Here, actor: By, request: Wanted) -> Response:
    """Resolves, builds and probes. JSON lines: `{"line": …}`, last `{"result": …}` or `{"problem": …}`."""
    return working(lambda progress: locking.lock(platform, actor, request, progress))


@router.post("/environments/build")
def build(platform: Here, actor: By, request: Wanted) -> Response:
    """Builds the images of the locks. JSON lines as above."""
    return working(lambda progress: locking.build(platform, actor, request, progress))


@router.post("/environments/pool")
def pool(platform: Here, actor: By, request: Wanted) -> Response:
    """Puts every file that the builds need into a folder. JSON lines as above."""
    return working(lambda progress: locking.pool(platform, actor, request, progress))


@router.post("/environments/verify")
def verify(platform: Here, actor: By, request: Wanted) -> Response:
    """Compares images with digests, signatures and locks. JSON lines as above."""
    return working(lambda progress: environment_views.verify(platform, actor, request, progress))


@router.post("/environments/outdated")
def outdated(platform: Here, actor: By, request: Wanted) -> Response:
    """What moved on since the locks. JSON lines as above."""
    return working(lambda progress: environment_views.outdated(platform, actor, request, progress))


@router.post("/environments/list")
def listing(platform: Here, actor: By, request: Wanted) -> Response:
    """Each environment: locked, built, or not."""
    return reply(environment_views.listing(platform, actor, request))


@router.post("/environments/show")
def show(platform: Here, actor: By, request: Wanted) -> Response:
    """One environment with its packages."""
    return reply(environment_views.show(platform, actor, request))


@router.post("/environments/diff")
def diff(platform: Here, actor: By, request: Wanted) -> Response:
    """Two environments' packages against each other."""
    return reply(environment_views.diff(platform, actor, request))


@router.post("/environments/attest")
def attest(platform: Here, actor: By, request: Wanted) -> Response:
    """Notes what a licensed engine was installed from."""
    return reply(attesting.attest(platform, actor, request))


@router.post("/environments/sbom")
def sbom(platform: Here, actor: By, request: Wanted) -> Response:
    """The image's SBOM (CycloneDX 1.6)."""
    return _document(environment_views.document(platform, actor, request, locking.SBOM))


@router.post("/environments/provenance")
def provenance(platform: Here, actor: By, request: Wanted) -> Response:
    """The image's provenance (SLSA in a DSSE envelope)."""
    return _document(environment_views.document(platform, actor, request, locking.PROVENANCE))


def _document(content: bytes) -> Response:
    return Response(content, media_type="application/json")


@router.get("/keys")
def keys(platform: Here, actor: By) -> Response:
    """The public halves of the keys that sign."""
    return reply(environment_views.signing_keys(platform, actor))
