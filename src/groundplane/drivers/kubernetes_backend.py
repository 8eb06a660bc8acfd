"""How a Kubernetes backend is configured, and what of it is a secret: that lies in the home, for its owner alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groundplane.drivers.kubernetes_objects import Placing
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.quantities import parse_duration
from groundplane.spi import files
from groundplane.spi.blobs import kind_of

_SECRETS = ("kubeconfig", "variables")
_PLAIN = ("context", "namespace", "queue", "image_registry", "storage", "patience", "priority", "account", "runtime")
_LISTS = ("selector", "tolerations")
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Backend:
    """kubeconfig: JSON of one without references to files, "" for the service account of the pod that this runs in.
    registry: with prefix. plain: spoken to without TLS. patience: seconds that an image or a place is waited for."""

    kubeconfig: str
    context: str
    namespace: str
    registry: str
    plain: bool
    storage: str
    variables: Mapping[str, str]
    patience: float
    placing: Placing

    @property
    def endpoint(self) -> str:
        """The URL of its storage's server."""
        given = (self.variables.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        return next(filter(None, given), "https://")


def public(options: Mapping[str, str]) -> dict[str, str]:
    """The options that are no secrets."""
    return {key: value for key, value in options.items() if key not in _SECRETS}


def keep(home: Path, name: str, options: Mapping[str, str]) -> None:
    """Puts the secrets among the options into a file of mode 0600."""
    secrets = {key: options[key] for key in _SECRETS if options.get(key)}
    path = _path(home, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(path, json.dumps(secrets).encode(), mode=0o600, durable=True)


def forget(home: Path, name: str) -> None:
    """Its secrets are gone."""
    _path(home, name).unlink(missing_ok=True)


def read(home: Path, name: str, options: Mapping[str, str]) -> Backend:
    """The backend as it was added. Raises Invalid, and Unavailable when its secrets are not here."""
    unknown = sorted(set(options) - {*_SECRETS, *_PLAIN, *_LISTS})
    if unknown:
        raise Invalid(f"driver 'kubernetes' knows no {', '.join(unknown)}", hint="ground backends add --help")
    for needed, flag in (("image_registry", "--image-registry"), ("storage", "--storage")):
        if not options.get(needed):
            raise Invalid(
                f"driver 'kubernetes' needs {flag}",
                hint="--image-registry [http://]HOST[:PORT][/PREFIX] --storage s3://BUCKET/PREFIX",
            )
    kind_of(options["storage"])
    secrets = {key: options[key] for key in _SECRETS if key in options}
    if not secrets:
        try:
            secrets = json.loads(_path(home, name).read_text())
        except FileNotFoundError:
            raise Unavailable(
                f"the credentials of backend {name!r} are not in this home",
                hint=f"ground backends rm {name}, and add it again from here",
            ) from None
    scheme, found, rest = options["image_registry"].rpartition("://")
    if found and scheme not in ("http", "https"):
        raise Invalid(f"a registry is spoken to by http or https, not {scheme}", hint="--image-registry [http://]HOST")
    return Backend(
        kubeconfig=secrets.get("kubeconfig", ""),
        context=options.get("context", ""),
        namespace=options.get("namespace", ""),
        registry=rest.rstrip("/"),
        plain=scheme == "http",
        storage=options["storage"],
        variables=json.loads(secrets.get("variables", "{}")),
        patience=parse_duration(options["patience"]) if options.get("patience") else _PATIENCE,
        placing=Placing(
            queue=options.get("queue", ""),
            priority=options.get("priority", ""),
            account=options.get("account", ""),
            runtime=options.get("runtime", ""),
            selector=_pairs(options.get("selector", "")),
            tolerations=tuple(part for part in options.get("tolerations", "").split(",") if part),
        ),
    )


def _pairs(text: str) -> dict[str, str]:
    parted = [part.partition("=") for part in text.split(",") if part]
    return {key: value for key, _, value in parted}


def _path(home: Path, name: str) -> Path:
    return home / "backends" / f"{name}.json"
