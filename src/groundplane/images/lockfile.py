"""`ground.lock`: TOML, an environment a table; equal locks are equal bytes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_type_hints

from groundplane.images import lockrules
from groundplane.model.errors import Invalid
from groundplane.model.locks import Lock
from groundplane.spi import wire

VERSION = 1
_HEADER = "# Written by `ground env lock`: do not edit.\n"
_HINT = "take the file from version control, or delete it and write it anew: ground env lock"


def write(locks: Iterable[Lock]) -> str:
    """The file's text; environments by name, what is empty left out."""
    import tomli_w

    made: dict[str, Any] = {}
    for lock in sorted(locks, key=lambda each: each.name):
        body = _without_empty(asdict(lock))
        del body["name"]
        made[lock.name] = body
    return _HEADER + tomli_w.dumps({"version": VERSION, "environments": made}, multiline_strings=True)


def read(text: str, file: str = "ground.lock") -> dict[str, Lock]:
    """Its environments by name. Raises Invalid that names the file and the key."""
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{file} is damaged: {error}", hint=_HINT) from None
    version = body.get("version")
    if type(version) is not int or version < 1:
        raise Invalid(f"{file} is damaged: it tells no version of itself", hint=_HINT)
    if version > VERSION:
        raise Invalid(
            f"{file} is of version {version}, and this Groundplane knows {VERSION}", hint="update Groundplane"
        )
    tables = body.get("environments", {})
    if not isinstance(tables, Mapping):
        raise Invalid(f"{file}: environments is no table", hint=_HINT)
    found: dict[str, Lock] = {}
    for name, table in tables.items():  # pyright: ignore[reportUnknownVariableType]
        where = f"{file}: environments.{name}"
        _check(Lock, {"name": name, **table} if isinstance(table, Mapping) else table, where)  # pyright: ignore[reportUnknownArgumentType]
        found[str(name)] = wire.decode(Lock, {"name": name, **table})  # pyright: ignore[reportUnknownArgumentType]
        lockrules.check(found[str(name)], where)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _check(kind: Any, value: Any, where: str) -> None:
    """Raises Invalid where the value is not what `kind` is made from."""
    hints = get_type_hints(kind)
    if not isinstance(value, Mapping):
        raise Invalid(f"{where} is no table", hint=_HINT)
    given: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    known = {field.name: field for field in fields(kind)}
    for key in given:
        if key not in known:
            raise Invalid(f"{where}.{key}: no such key", hint=_HINT)
    for key, field in known.items():
        if key not in given:
            if not _optional(field):
                raise Invalid(f"{where} lacks {key!r}", hint=_HINT)
            continue
        _check_value(hints[key], given[key], f"{where}.{key}")


def _check_value(hint: Any, value: Any, where: str) -> None:
    inner = next((each for each in getattr(hint, "__args__", ()) if is_dataclass(each)), None)
    if is_dataclass(hint) or (inner is not None and not str(hint).startswith("tuple")):
        _check(hint if is_dataclass(hint) else inner, value, where)
    elif str(hint).startswith("tuple"):
        if not isinstance(value, list):
            raise Invalid(f"{where} is no array", hint=_HINT)
        entries: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        for number, entry in enumerate(entries):
            if inner is not None:
                _check(inner, entry, f"{where}[{number}]")
            elif not isinstance(entry, str):
                raise Invalid(f"{where}[{number}] is no text", hint=_HINT)
    elif hint in (str, int) and (not isinstance(value, hint) or isinstance(value, bool)):
        raise Invalid(f"{where} is no {'text' if hint is str else 'whole number'}", hint=_HINT)


def _optional(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is not MISSING or field.default_factory is not MISSING


def _without_empty(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in body.items():
        if isinstance(value, Mapping):
            value = _without_empty(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, (list, tuple)):
            value = [_without_empty(each) if isinstance(each, Mapping) else each for each in value]  # pyright: ignore
        if value not in (None, (), [], {}):
            found[key] = value
    return found
