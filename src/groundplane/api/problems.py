"""Every error of the API has one shape: an RFC 9457 problem with Groundplane's code, hint and fault."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from groundplane.model.errors import GroundError, Invalid, NotFound, Unavailable
from groundplane.spi import wire
from groundplane.store.database import QueryFailed

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


def problem_of(error: GroundError, status: int | None = None) -> dict[str, Any]:
    """type, title, status, detail, code, hint, fault."""
    number = status or error.status
    return {
        "type": f"urn:groundplane:error:{error.code}",
        "title": HTTPStatus(number).phrase,
        "status": number,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
        "fault": str(error.fault),
    }


def problem_reply(error: GroundError, status: int | None = None) -> Response:
    """The same as an answer."""
    body = problem_of(error, status)
    return Response(wire.encode(body), body["status"], media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Has the app answer every error so."""
    app.add_exception_handler(GroundError, _ground)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(QueryFailed, _database)
    app.add_exception_handler(Exception, _unforeseen)


async def _ground(_: Request, error: Exception) -> Response:
    assert isinstance(error, GroundError)  # noqa: S101 - Starlette's signature is wider than what it calls with
    return problem_reply(error)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem_reply(Invalid(f"{place}: {first['msg']}", hint="see /api/v1/openapi.json for what it may be"))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    known = "the routes are listed at /api/v1/openapi.json"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_reply(NotFound(f"there is no route {request.url.path}", hint=known, code="no_route"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{request.url.path} does not take {request.method}"
        return problem_reply(Invalid(message, hint=known, code="wrong_method"), error.status_code)
    return problem_reply(Invalid(str(error.detail)), error.status_code)


async def _database(request: Request, error: Exception) -> Response:
    """What it says holds the statement and its values: for the log alone."""
    log.error("the database refused a query of %s %s", request.method, request.url.path, exc_info=error)
    return problem_reply(Unavailable("the database refused a query", hint="what it said is in control.log"))


async def _unforeseen(_: Request, error: Exception) -> Response:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    failure = GroundError(f"the control plane failed at this: {what}", hint="its traceback is in control.log")
    return problem_reply(failure)
