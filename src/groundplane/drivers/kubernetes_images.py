"""The registries that nodes pull from: what the backend's own lacks is pushed there, and those of others are asked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from groundplane.model.errors import Denied, GroundError, NotFound, Unavailable
from groundplane.oci import registry
from groundplane.oci.reference import Reference, parse
from groundplane.spi.images import Image, Progress

log = logging.getLogger(__name__)

_BELIEVED = 60.0
"""Seconds that an image which was there counts as being there."""
_LEFT_ALONE = 60.0
"""Seconds that somebody else's registry which did not answer is not asked again."""


class Images:
    """The parts of a driver that `CanRunImages`, `NeedsStaging` and `PullsImages` speak of, but for `ping`.

    where: the registry with its prefix. plain: spoken to without TLS. staging_image: what the staging image is called
    there, once it is known.
    """

    def __init__(self, where: str, *, plain: bool) -> None:
        self._registry = where
        self._plain = plain
        self._there: dict[str, float] = {}
        self._away: dict[str, float] = {}  # registry -> until when nobody asks it
        self.staging_image = ""

    def image_name(self, image: Image) -> str:
        return str(self._target(image))

    def has(self, image: Image) -> bool:
        return self._was_there(self._target(image))

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        target = self._target(image)
        if not self._is_there(target):
            tagged = replace(target, digest="", tag=image.recipe[:16] or "latest")
            self._push(image, blobs, progress, tagged)
            self._there[str(target)] = time.monotonic()

    def drop(self, image: Image) -> None:
        """Registries are tidied up by their own keepers."""

    def use_staging(self, name: str) -> None:
        self.staging_image = f"{self._repository(name)}:{parse(name).tag}"

    def has_staging(self) -> bool:
        return self._was_there(parse(self.staging_image))

    def bring_staging(self, make: Callable[[], Image], blobs: Callable[[str], Path], progress: Progress) -> None:
        target = parse(self.staging_image)
        if not self._is_there(target):
            self._push(make(), blobs, progress, target)
            self._there[str(target)] = time.monotonic()

    def digest_of(self, reference: str) -> str:
        named = parse(reference)
        where = named.full.registry
        if time.monotonic() < self._away.get(where, 0.0):
            return named.digest
        try:
            found = registry.digest_of(named, plain=self._speaks_plainly(where))
        except GroundError as error:
            # Nodes may reach it, and may pull, where this machine does not or may not: they will tell.
            log.warning("an image's registry cannot be asked image=%s error=%s", reference, error.message)
            if isinstance(error, Unavailable):
                self._away[where] = time.monotonic() + _LEFT_ALONE
            return named.digest
        if not found:
            raise NotFound(
                f"registry {where} has no image {named.full.repository}:{named.digest or named.tag or 'latest'}",
                hint="is its name right, with its tag? `ground env lock` takes one that only a Docker engine has",
                code="image_missing",
            )
        return found

    def _push(self, image: Image, blobs: Callable[[str], Path], progress: Progress, target: Reference) -> None:
        try:
            registry.push(blobs, image.manifest, target, progress, plain=self._plain)
        except Denied as error:
            raise _of_backend(error) from error

    def _was_there(self, target: Reference) -> bool:
        return time.monotonic() - self._there.get(str(target), -_BELIEVED) < _BELIEVED

    def _is_there(self, target: Reference) -> bool:
        """Asks the registry."""
        try:
            there = registry.digest_of(target, plain=self._plain) != ""
        except Denied as error:
            raise _of_backend(error) from error
        if there:
            self._there[str(target)] = time.monotonic()
        return there

    def _speaks_plainly(self, host: str) -> bool:
        return self._plain and host == self._registry.partition("/")[0]

    def _repository(self, reference: str) -> str:
        """Where an image lies in the backend's registry."""
        return f"{self._registry}/{parse(reference).repository}"

    def _target(self, image: Image) -> Reference:
        return parse(f"{self._repository(image.reference)}@sha256:{image.manifest}")


def _of_backend(error: Denied) -> Unavailable:
    """Of the backend's credentials, not of who runs something there."""
    return Unavailable(error.message, hint=error.hint, code="registry_unavailable")
