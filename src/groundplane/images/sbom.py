"""What an image is made of: CycloneDX 1.6."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

from groundplane.model.locks import Lock
from groundplane.spi.images import Image


def sbom(lock: Lock, image: Image) -> bytes:
    """JSON; the same for the same lock and image."""
    import cyclonedx.model
    import cyclonedx.model.bom
    import cyclonedx.model.component
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    # Its classes are made by decorators that type checkers do not see through.
    hashes: Any = cyclonedx.model
    boms: Any = cyclonedx.model.bom
    components: Any = cyclonedx.model.component

    def component(kind: str, name: str, version: str, sha256: str, *more: str) -> Any:
        """sha256: "" where only the image tells of the package."""
        url = purl(kind, name, version, *more)
        return components.Component(
            type=components.ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=url,
            purl=PackageURL.from_string(url),
            hashes=[hashes.HashType(alg=hashes.HashAlgorithm.SHA_256, content=sha256)] if sha256 else (),
        )

    suite = lock.base.suite if lock.base else ""
    found = [
        component("deb", deb.name, deb.version, deb.sha256, suite, deb.architecture)
        for deb in (*(lock.base.packages if lock.base else ()), *lock.packages)
    ]
    if lock.native:
        kind = {"pylock": "pypi", "renv": "cran"}[lock.native.kind]
        found += [component(kind, each.name, each.version, each.sha256) for each in lock.native.files]
    vendor, _, release = lock.distribution.partition(" ")
    for each in lock.found:
        kind = {"python": "pypi", "r": "cran"}.get(each.kind, each.kind)
        found.append(component(kind, each.name, each.version, "", release, each.architecture, vendor))
    bom = boms.Bom(components=found, serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image.manifest))
    bom.metadata.timestamp = datetime.fromtimestamp(image.built_at / 1e6, UTC)
    bom.metadata.component = components.Component(
        type=components.ComponentType.CONTAINER,
        name=re.sub(r":[^:/]*$", "", image.reference),
        version=image.recipe[:16],
        bom_ref=image.reference,
        hashes=[hashes.HashType(alg=hashes.HashAlgorithm.SHA_256, content=image.manifest)],
    )
    bom.register_dependency(bom.metadata.component, found)
    return JsonV1Dot6(bom).output_as_string(indent=2).encode()


def purl(kind: str, name: str, version: str, suite: str = "", architecture: str = "", vendor: str = "debian") -> str:
    """A package URL: `pkg:deb/debian/r-base-core@4.5.0-3?arch=amd64&distro=trixie`."""
    from packageurl import PackageURL

    system = kind in ("deb", "apk")
    qualifiers = {"arch": architecture, "distro": suite} if system else None
    return PackageURL(kind, vendor if system else None, name, version, qualifiers).to_string()
