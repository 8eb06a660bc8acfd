"""Documents as answers and bodies as documents, past FastAPI's own serialisation: a run of 1000 tasks is large."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request, Response
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from groundplane.model.errors import Invalid, TooLarge
from groundplane.services import callers
from groundplane.services.access import Actor
from groundplane.services.platform import Platform
from groundplane.spi import wire

T = TypeVar("T")
BODY_LIMIT = 16 * 1024 * 1024


def line(document: object) -> bytes:
    """A document as a line of JSON. File names that are no UTF-8 go the slow way, as `wire` writes them."""
    try:
        return to_json(document) + b"\n"
    except (PydanticSerializationError, ValueError):
        return wire.encode(document)


def reply(document: object, status: int = 200) -> Response:
    """A document as an answer."""
    return Response(line(document), status, media_type="application/json")


def body(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the request's body as `kind`, as it may be acted on here (services/callers.py). Raises
    Invalid that names the key that is wrong."""

    async def read(request: Request) -> T:
        pieces: list[bytes] = []
        size = 0
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > BODY_LIMIT:
                raise TooLarge(f"the request is over {BODY_LIMIT >> 20} MiB", hint="shorten ground.toml")
        found = parse(kind, b"".join(pieces))
        return callers.settled(request.app.state.platform, request.scope["state"]["actor"], found)

    return read


def parse(kind: type[T], raw: bytes) -> T:
    """JSON as the dataclass `kind`. Raises Invalid that names the key that is unknown, missing or of a wrong type."""
    try:
        given = wire.parse(raw)
        found = cast("TypeAdapter[T]", _adapter(kind)).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the request's body"
        raise Invalid(f"{place}: {first['msg']}", hint="see /api/v1/openapi.json for what it may be") from None
    except ValueError as error:
        raise Invalid(f"the request's body is no JSON: {error}", hint="send a JSON object") from None
    for name in _unknown(given, found):
        raise Invalid(f"{name}: no such key", hint="see /api/v1/openapi.json for the keys; is the server older?")
    return found


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _unknown(given: object, found: object, place: str = "") -> Iterator[str]:
    """Paths of keys that the dataclass does not have."""
    if not is_dataclass(found) or not isinstance(given, dict):
        return
    names = {field.name for field in fields(found)}
    for name, value in cast("dict[str, object]", given).items():
        if name not in names:
            yield place + name
        else:
            yield from _unknown(value, getattr(found, name), f"{place}{name}.")


async def _platform(request: Request) -> Platform:
    return request.app.state.platform


async def _actor(request: Request) -> Actor:
    return request.scope["state"]["actor"]


# Coroutines, so that FastAPI does not send each of them through a thread.
Here = Annotated[Platform, Depends(_platform)]
By = Annotated[Actor, Depends(_actor)]
