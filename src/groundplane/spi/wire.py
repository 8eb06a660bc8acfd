"""Dataclasses as JSON and back, for the messages between control plane and agent. Unknown keys are ignored and
missing ones take their defaults, so that neighbouring versions understand each other."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def encode(message: object) -> bytes:
    """One line of JSON with its newline."""
    return (
        json.dumps(message, default=_plain, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape")
        + b"\n"
    )


def plain(message: object) -> Any:
    """The same as lists, dicts and scalars."""
    return parse(encode(message))


def decode(kind: type[T], body: Any) -> T:
    """The dataclass `kind` from what `json.loads` gave for it."""
    return _reader(kind)(body)


def parse(line: bytes) -> Any:
    """A line that `encode` made, as lists, dicts and scalars; file names that are no UTF-8 survive."""
    return json.loads(line.decode(errors="surrogateescape"))


def _plain(value: object) -> Any:
    if is_dataclass(value):
        return {name: getattr(value, name) for name in _names(type(value))}
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"{type(value).__name__} does not travel")


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """A function from JSON to `kind`, built once a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = _reader(next(a for a in arguments if a is not type(None)))
        return lambda body: None if body is None else inner(body)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = _reader(arguments[0])
            return lambda body: tuple([item(part) for part in body])
        items = [_reader(a) for a in arguments]
        return lambda body: tuple([read(part) for read, part in zip(items, body, strict=True)])
    if origin is not None and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return lambda body: {name: value(part) for name, part in body.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind, vars(sys.modules[kind.__module__]))
        readers = {name: _reader(hints[name]) for name in _names(kind)}
        return lambda body: kind(**{name: readers[name](part) for name, part in body.items() if name in readers})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return lambda body: body
