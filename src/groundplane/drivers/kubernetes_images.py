"""The registry that a cluster's nodes pull from: what it lacks is pushed there, and remembered for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from groundplane.model.errors import GroundError, Unavailable
from groundplane.oci import registry
from groundplane.oci.reference import parse
from groundplane.spi.images import Image, Progress

_BELIEVED = 60.0
"""Seconds that an image which was there counts as being there."""


_AWAY_FOR = 10.0
"""Seconds that a registry which did not answer is not asked again whether it has something."""


class Images:
    """The parts of a driver that `CanRunImages` and `NeedsStaging` speak of, but for `ping`.

    where: the registry with its prefix. plain: spoken to without TLS. staging_image: what the staging image is called
    there, once it is known.
    """

    def __init__(self, where: str, *, plain: bool) -> None:
        self._registry = where
        self._plain = plain
        self._there: dict[str, float] = {}
        self._away_until = 0.0
        self.staging_image = ""

    def image_name(self, image: Image) -> str:
        return f"{self._repository(image.reference)}@sha256:{image.manifest}"

    def has(self, image: Image) -> bool:
        return self._has(self._repository(image.reference), f"sha256:{image.manifest}")

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        repository = self._repository(image.reference)
        tag = image.recipe[:16] or "latest"
        try:
            registry.push(blobs, image.manifest, replace(parse(repository), tag=tag), progress, plain=self._plain)
        except GroundError as error:
            if error.code in ("registry_unavailable", "denied"):
                raise Unavailable(error.message, hint=error.hint, code="registry_unavailable") from error
            raise
        self._there[f"{repository}@sha256:{image.manifest}"] = time.monotonic()

    def drop(self, image: Image) -> None:
        """Registries are tidied up by their own keepers."""

    def has_staging(self, name: str) -> bool:
        repository, _, tag = name.partition(":")
        if not self._has(self._repository(repository), tag):
            return False
        self.use_staging(name)
        return True

    def bring_staging(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        repository, _, tag = image.reference.partition(":")
        target = replace(parse(self._repository(repository)), tag=tag)
        registry.push(blobs, image.manifest, target, progress, plain=self._plain)
        self.use_staging(image.reference)

    def use_staging(self, name: str) -> None:
        repository, _, tag = name.partition(":")
        self.staging_image = f"{self._repository(repository)}:{tag}"

    def _has(self, repository: str, version: str) -> bool:
        name = f"{repository}@{version}"
        if time.monotonic() - self._there.get(name, -_BELIEVED) < _BELIEVED:
            return True
        if time.monotonic() < self._away_until:  # this is asked in a transaction: it does not wait for it each time
            return False
        try:
            found = registry.has(parse(repository), version, plain=self._plain)
        except GroundError:
            self._away_until = time.monotonic() + _AWAY_FOR
            raise
        if not found:
            self._there.pop(name, None)
            return False
        self._there[name] = time.monotonic()
        return True

    def _repository(self, reference: str) -> str:
        """Where an image lies in the backend's registry."""
        found = parse(reference)
        return f"{self._registry}/{found.repository}"
