"""How a Kubernetes backend is configured, and what of it is a secret: that lies in the home, for its owner alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groundplane.drivers import secrets as kept
from groundplane.drivers.kubernetes_objects import Placing
from groundplane.model.errors import Invalid
from groundplane.model.quantities import parse_duration
from groundplane.spi.blobs import kind_of

_SECRETS = ("kubeconfig", "variables")
_PLAIN = ("context", "namespace", "queue", "image_registry", "storage", "patience", "priority", "account", "runtime")
_LISTS = ("selector", "tolerations")
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Backend:
    """registry: with prefix. plain: spoken to without TLS. patience: seconds that an image or a place is waited for.
    secrets: as they were given; None where the home has them."""

    context: str
    namespace: str
    registry: str
    plain: bool
    storage: str
    patience: float
    placing: Placing
    secrets: Secrets | None


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """kubeconfig: JSON of one without references to files, "" for the service account of the pod that this runs in.
    variables: that the storage is reached by."""

    kubeconfig: str
    variables: Mapping[str, str]

    @property
    def endpoint(self) -> str:
        """The URL of its storage's server."""
        given = (self.variables.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        return next(filter(None, given), "https://")


def public(options: Mapping[str, str]) -> dict[str, str]:
    """The options that are no secrets."""
    return {key: value for key, value in options.items() if key not in _SECRETS}


def keep(home: Path, name: str, options: Mapping[str, str]) -> None:
    """Keeps the secrets among the options."""
    if any(key in options for key in _SECRETS):  # or what is there stays
        kept.keep(home, name, {key: options[key] for key in _SECRETS if options.get(key)})


def secrets(home: Path, name: str) -> Secrets:
    """As they were kept. Raises Unavailable where the home does not have them, or has them damaged."""
    found = kept.read(home, name)
    try:
        return _secrets(found)
    except ValueError as error:
        raise kept.unreadable(home, name, f"is damaged: {error}") from None


def _secrets(given: Mapping[str, str]) -> Secrets:
    variables: dict[str, str] = json.loads(given.get("variables") or "{}")
    return Secrets(given.get("kubeconfig", ""), variables)


def read(options: Mapping[str, str]) -> Backend:
    """The backend as it was added. Raises Invalid. Its secrets are not looked for: one that has lost them must not keep
    a control plane, and all other backends, from starting."""
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
    scheme, found, rest = options["image_registry"].rpartition("://")
    if found and scheme not in ("http", "https"):
        raise Invalid(f"a registry is spoken to by http or https, not {scheme}", hint="--image-registry [http://]HOST")
    return Backend(
        context=options.get("context", ""),
        namespace=options.get("namespace", ""),
        registry=rest.rstrip("/"),
        plain=scheme == "http",
        storage=options["storage"],
        patience=parse_duration(options["patience"]) if options.get("patience") else _PATIENCE,
        placing=Placing(
            queue=options.get("queue", ""),
            priority=options.get("priority", ""),
            account=options.get("account", ""),
            runtime=options.get("runtime", ""),
            selector=_pairs(options.get("selector", "")),
            tolerations=tuple(part for part in options.get("tolerations", "").split(",") if part),
        ),
        secrets=_secrets(options) if any(key in options for key in _SECRETS) else None,
    )


def _pairs(text: str) -> dict[str, str]:
    parted = [part.partition("=") for part in text.split(",") if part]
    return {key: value for key, _, value in parted}
