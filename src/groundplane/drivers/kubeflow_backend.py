"""How a Kubeflow backend is configured, and what of it is a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groundplane.drivers import secrets
from groundplane.drivers.kubeflow_api import Server
from groundplane.model.errors import Invalid
from groundplane.spi.blobs import kind_of

_SECRETS = ("token", "variables")
_PLAIN = ("url", "namespace", "token_file", "storage", "credentials")


@dataclass(frozen=True, slots=True)
class Backend:
    """storage: where its runs keep their artifacts, which is read from here with the variables; "" where its API gives
    them away."""

    server: Server
    storage: str
    variables: Mapping[str, str]


def public(options: Mapping[str, str]) -> dict[str, str]:
    """The options that are no secrets. credentials: says that there are some."""
    found = {key: value for key, value in options.items() if key not in _SECRETS}
    return {**found, "credentials": "kept"} if any(options.get(key) for key in _SECRETS) else found


def keep(home: Path, name: str, options: Mapping[str, str]) -> None:
    """Keeps the secrets, where there are some."""
    given = {key: options[key] for key in _SECRETS if options.get(key)}
    if given:
        secrets.keep(home, name, given)


def read(home: Path, name: str, options: Mapping[str, str]) -> Backend:
    """The backend as it was added. Raises Invalid, and Unavailable when its secrets are not here."""
    unknown = sorted(set(options) - {*_SECRETS, *_PLAIN})
    if unknown:
        raise Invalid(f"driver 'kubeflow' knows no {', '.join(unknown)}", hint="ground backends add --help")
    if not options.get("url"):
        raise Invalid("driver 'kubeflow' needs --url", hint="--url https://HOST[:PORT][/PATH] [--namespace NS]")
    given = {key: options[key] for key in _SECRETS if options.get(key)}
    if not given and options.get("credentials"):
        given = secrets.read(home, name)
    storage = options.get("storage", "").rstrip("/")
    if storage:
        kind_of(storage)
    server = Server(options["url"], given.get("token", ""), options.get("token_file", ""), options.get("namespace", ""))
    return Backend(server, storage, json.loads(given.get("variables", "{}")))
