"""Names of images as Docker writes them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from groundplane.model.errors import Invalid

_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
HUB = "docker.io"
"""The registry of names that have none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """registry: host and port, "" for the engine's default one. tag, digest: "" where none is written."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def full(self) -> Reference:
        """The same with its registry, which engines and nodes leave away."""
        if self.registry not in ("", HUB):
            return self
        repository = self.repository if "/" in self.repository else f"library/{self.repository}"
        return replace(self, registry=HUB, repository=repository)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def is_digest(text: str) -> bool:
    """Whether it is `sha256:…`."""
    return _DIGEST.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """Raises Invalid for what is no name of an image."""
    rest, at, digest = text.partition("@")
    first, slash, after = rest.partition("/")
    registry = ""
    # A first part with a dot or a port, or `localhost`, is a host: so Docker tells it from a folder of a registry.
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, after
    repository, colon, tag = rest.partition(":")
    wrong = (
        (at and not _DIGEST.fullmatch(digest))
        or (colon and not _TAG.fullmatch(tag))
        or (registry and not _HOST.fullmatch(registry))
        or not all(_PART.fullmatch(part) for part in repository.split("/"))
    )
    if wrong:
        raise Invalid(
            f"{text!r} is no name of an image", hint="write it like registry.example:5000/team/name:tag, in lower case"
        )
    return Reference(registry, repository, tag, digest)
