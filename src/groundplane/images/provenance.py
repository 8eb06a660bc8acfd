"""Where an image comes from, signed: SLSA provenance 1 as an in-toto statement in a DSSE envelope."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from groundplane.images.sbom import purl
from groundplane.model.locks import Lock
from groundplane.model.version import VERSION
from groundplane.spi.images import Image

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"


def sign(lock: Lock, image: Image, key: Ed25519PrivateKey) -> bytes:
    """The envelope as JSON."""
    import securesystemslib.dsse
    import securesystemslib.signer

    dsse: Any = securesystemslib.dsse  # its types are not told
    signer: Any = securesystemslib.signer
    payload = json.dumps(_statement(lock, image), sort_keys=True, separators=(",", ":")).encode()
    envelope = dsse.Envelope(payload, _TYPE, {})
    envelope.sign(signer.CryptoSigner(key))
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def verify(envelope: bytes, public_key: Ed25519PublicKey, image: Image, lock: Lock) -> list[str]:
    """What is not as it was signed: sentences."""
    import securesystemslib.dsse
    import securesystemslib.signer
    from securesystemslib.exceptions import VerificationError

    dsse: Any = securesystemslib.dsse
    signer: Any = securesystemslib.signer
    try:
        found = dsse.Envelope.from_dict(json.loads(envelope))
        found.verify([signer.SSlibKey.from_crypto(public_key)], 1)
        statement: dict[str, Any] = json.loads(found.payload)
    except (VerificationError, ValueError, KeyError, TypeError) as error:
        return [f"its provenance is not signed by this control plane's key, or was altered ({type(error).__name__})"]
    problems: list[str] = []
    signed = [subject["digest"].get("sha256") for subject in statement["subject"]]
    if signed != [image.manifest]:
        problems.append(f"its provenance is of image sha256:{signed[0]}, not of sha256:{image.manifest}")
    named = statement["predicate"]["buildDefinition"]["externalParameters"]["lock_sha256"]
    if named != lock.sha256:
        problems.append(f"its provenance names lock {named}; ground.lock has {lock.sha256}")
    return problems


def _statement(lock: Lock, image: Image) -> dict[str, Any]:
    return {
        "_type": _STATEMENT,
        "subject": [{"name": image.reference, "digest": {"sha256": image.manifest}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"https://groundplane.dev/build/{lock.builder}/v1",
                "externalParameters": {
                    "environment": lock.name,
                    "definition": lock.definition,
                    "lock_sha256": lock.sha256,
                },
                "internalParameters": {"recipe": lock.recipe},
                "resolvedDependencies": _dependencies(lock),
            },
            "runDetails": {
                "builder": {
                    "id": f"https://groundplane.dev/builder/{lock.builder}",
                    "version": {"groundplane": VERSION},
                },
                "metadata": {
                    "invocationId": image.recipe,
                    "finishedOn": datetime.fromtimestamp(image.built_at / 1e6, UTC).isoformat().replace("+00:00", "Z"),
                },
            },
        },
    }


def _dependencies(lock: Lock) -> list[dict[str, Any]]:
    suite = lock.base.suite if lock.base else ""
    debs = [*(lock.base.packages if lock.base else ()), *lock.packages, *(lock.native.tools if lock.native else ())]
    found = [
        {"uri": purl("deb", d.name, d.version, suite, d.architecture), "digest": {"sha256": d.sha256}} for d in debs
    ]
    if lock.native:
        kind = {"pylock": "pypi", "renv": "cran"}[lock.native.kind]
        found += [{"uri": purl(kind, f.name, f.version), "digest": {"sha256": f.sha256}} for f in lock.native.files]
        found.append(
            {"uri": lock.native.kind, "digest": {"sha256": hashlib.sha256(lock.native.text.encode()).hexdigest()}}
        )
    if lock.upstream:
        found += [{"uri": name, "digest": {"sha256": d.rpartition(":")[2]}} for name, d in lock.upstream.bases.items()]
        if lock.upstream.dockerfile:
            found.append({"uri": lock.upstream.reference, "digest": {"sha256": lock.upstream.dockerfile}})
            found.append({"uri": "context", "digest": {"sha256": lock.upstream.context}})
        else:
            digest = lock.upstream.digest.rpartition(":")[2] or lock.upstream.config
            found.append({"uri": lock.upstream.reference, "digest": {"sha256": digest}})
    return found
