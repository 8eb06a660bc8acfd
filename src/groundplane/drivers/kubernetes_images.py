"""The registry that a cluster's nodes pull from: what it lacks is pushed there, and remembered for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from groundplane.model.errors import Denied, GroundError, Unavailable
from groundplane.oci import registry
from groundplane.oci.reference import Reference, parse
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
        self._away: tuple[float, GroundError] | None = None  # until when nobody asks again, and what it said
        self.staging_image = ""

    def image_name(self, image: Image) -> str:
        return f"{self._repository(image.reference)}@sha256:{image.manifest}"

    def has(self, image: Image) -> bool:
        return self._has(self._repository(image.reference), f"sha256:{image.manifest}")

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        repository = self._repository(image.reference)
        self._push(image, blobs, progress, replace(parse(repository), tag=image.recipe[:16] or "latest"))
        self._there[f"{repository}@sha256:{image.manifest}"] = time.monotonic()

    def drop(self, image: Image) -> None:
        """Registries are tidied up by their own keepers."""

    def has_staging(self, name: str) -> bool:
        self.use_staging(name)
        repository, _, tag = self.staging_image.rpartition(":")
        return self._has(repository, tag)

    def bring_staging(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        self.use_staging(image.reference)
        self._push(image, blobs, progress, parse(self.staging_image))

    def use_staging(self, name: str) -> None:
        self.staging_image = f"{self._repository(name)}:{parse(name).tag}"

    def ask_again(self) -> None:
        """A registry that did not answer may do so now."""
        self._away = None

    def _push(self, image: Image, blobs: Callable[[str], Path], progress: Progress, target: Reference) -> None:
        try:
            registry.push(blobs, image.manifest, target, progress, plain=self._plain)
        except Denied as error:  # of the backend's credentials, not of who runs something there
            raise Unavailable(error.message, hint=error.hint, code="registry_unavailable") from error

    def _has(self, repository: str, version: str) -> bool:
        name = f"{repository}@{version}"
        if time.monotonic() - self._there.get(name, -_BELIEVED) < _BELIEVED:
            return True
        if self._away is not None and time.monotonic() < self._away[0]:  # a transaction does not wait for it each time
            raise self._away[1]
        try:
            found = registry.has(parse(repository), version, plain=self._plain)
        except GroundError as error:
            self._away = time.monotonic() + _AWAY_FOR, error
            raise
        if not found:
            self._there.pop(name, None)
            return False
        self._there[name] = time.monotonic()
        return True

    def _repository(self, reference: str) -> str:
        """Where an image lies in the backend's registry."""
        return f"{self._registry}/{parse(reference).repository}"
