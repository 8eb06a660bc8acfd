"""The transit engine of a Vault or OpenBao as the keeper of data keys. Untested against either: see docs/secrets.md.

It wraps and unwraps; its key never leaves it. VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE and VAULT_CACERT are those of
its own tools.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from groundplane.model.errors import Invalid, Unavailable

_SECONDS = 10.0
_REMEMBERED = 300.0
_MOST_REMEMBERED = 1000
_unwrapped: dict[tuple[str, bytes], tuple[bytes, float]] = {}


class Transit:
    """See `sealing.Keeper`. key: MOUNT/KEY, as `transit/groundplane`. variables: VAULT_…"""

    def __init__(self, key: str, variables: Mapping[str, str]) -> None:
        mount, _, self._key = key.rpartition("/")
        if not mount or not self._key:
            raise Invalid(f"GROUND_SECRETS_KEY: vault:{key} names no key", hint="write vault:transit/KEY")
        self._mount = mount
        self._address = variables.get("VAULT_ADDR", "").rstrip("/")
        self._token = variables.get("VAULT_TOKEN", "")
        self._namespace = variables.get("VAULT_NAMESPACE", "")
        self._authority = variables.get("VAULT_CACERT") or None
        if not self._address.startswith(("https://", "http://")) or not self._token:
            raise Unavailable(
                "GROUND_SECRETS_KEY names a Vault, and VAULT_ADDR or VAULT_TOKEN is not set",
                hint="set both for the control plane",
                code="vault_unavailable",
            )

    @property
    def name(self) -> str:
        return f"vault {self._mount}/{self._key}"

    def wrap(self, key: bytes) -> bytes:
        return self._ask("encrypt", "plaintext", base64.b64encode(key).decode(), "ciphertext").encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        """Asked at a run's submission, and remembered for a while: a task's start must not wait for a network."""
        known = _unwrapped.get((self._address, wrapped))
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        key = base64.b64decode(self._ask("decrypt", "ciphertext", wrapped.decode(), "plaintext"))
        if len(_unwrapped) >= _MOST_REMEMBERED:
            _unwrapped.clear()
        _unwrapped[self._address, wrapped] = key, time.monotonic() + _REMEMBERED
        return key

    def _ask(self, what: str, given: str, value: str, wanted: str) -> str:
        headers = {"X-Vault-Token": self._token, "Content-Type": "application/json"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        request = urllib.request.Request(  # noqa: S310 - the constructor lets http and https pass
            f"{self._address}/v1/{self._mount}/{what}/{self._key}",
            json.dumps({given: value}).encode(),
            headers,
            method="POST",
        )
        trust = ssl.create_default_context(cafile=self._authority) if self._address.startswith("https") else None
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS, context=trust) as answer:  # noqa: S310
                body: Any = json.loads(answer.read())
            return str(body["data"][wanted])
        except urllib.error.HTTPError as error:
            error.close()
            told = f"the Vault at {self._address} answers {error.code} to {what} with {self._mount}/{self._key}"
            hint = "is there such a key, and may the token use it?"
            raise Unavailable(told, hint=hint, code="vault_unavailable") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"the Vault at {self._address} does not answer: {error}", code="vault_unavailable"
            ) from error
