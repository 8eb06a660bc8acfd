"""What a registry wants to know of its user: from where `docker login` has put it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from groundplane.model.errors import Invalid
from groundplane.oci.reference import HUB

_SECONDS = 30
_NO_SUCH = "credentials not found"
_IDENTITY = "<token>"
_HUB = "https://index.docker.io/v1/"
"""What `docker login` calls the hub."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """token: an identity token, which stands for name and password. Its `repr` tells no secret."""

    name: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


def config_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Docker's own folder of this user."""
    return Path(variables.get("DOCKER_CONFIG") or Path(variables.get("HOME") or "~").expanduser() / ".docker")


def of(registry: str, folder: Path | None = None) -> Credentials | None:
    """Those of a registry (`host:port`); None when nobody has logged in there. Raises Invalid for a broken file, or a
    helper that fails."""
    path = (folder or config_folder()) / "config.json"
    try:
        body: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: {error}", hint="`docker login` writes it") from None
    config = _table(body)
    registry = _HUB if registry == HUB else registry
    helper = _table(config.get("credHelpers")).get(registry) or config.get("credsStore")
    if helper and (found := _from_helper(str(helper), registry)):
        return found
    for key, value in _table(config.get("auths")).items():
        if _host(key) == _host(registry):
            return _from_entry(_table(value), path, key)
    return None


def _table(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _host(key: str) -> str:
    """Older clients wrote an address: `https://host/v1/`."""
    return key.rpartition("://")[2].partition("/")[0]


def _from_entry(entry: Mapping[str, Any], path: Path, key: str) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(token=str(entry["identitytoken"]))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    if not entry.get("auth"):
        return None
    try:
        name, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = name = password = ""
    if not colon:
        raise Invalid(f"{path}: what it has of {key} is damaged", hint=f"docker login {_host(key)}")
    return Credentials(name, password)


def _from_helper(helper: str, registry: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    if shutil.which(program) is None:
        raise Invalid(
            f"Docker's configuration names the credential helper {program}, which is not on PATH",
            hint="install it, or take credsStore and credHelpers out of config.json and log in again",
        )
    try:
        done = subprocess.run(
            [program, "get"], input=registry, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Invalid(f"{program} does not answer: {error}", hint="try it by hand: `docker login`") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        if _NO_SUCH in said:
            return None
        raise Invalid(f"{program} failed for {registry}: {said}", hint=f"docker login {registry}")
    try:
        body = _table(json.loads(done.stdout))
        name, secret = str(body["Username"]), str(body["Secret"])
    except (ValueError, KeyError):
        raise Invalid(f"{program} gave no credentials for {registry}", hint=f"docker login {registry}") from None
    return Credentials(token=secret) if name == _IDENTITY else Credentials(name, secret)
