"""A run's variables: what the caller's shell would have given the work. Sealed in the database, deleted at the end."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import Connection

from groundplane.model.errors import Unavailable
from groundplane.model.parameters import variable_name
from groundplane.model.resources import Resources
from groundplane.store import variables

_KEY_BYTES = 32
_NONCE_BYTES = 12
_SECRET = re.compile(
    r"PASS|PWD|(?:^|_)PW(?:_|$)|SECRET|TOKEN|KEY|CREDENTIAL|AUTH(?!ORS?(?:_|$))|DSN|COOKIE|PRIVATE|CERT|SESSION",
    re.IGNORECASE,
)
_FOLDERS = ("PWD", "OLDPWD")
_EVERYWHERE = frozenset({"TZ"})
OF_NETWORKS = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("MLM_LICENSE_FILE", "LM_LICENSE_FILE"),
    }
)
_USER_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#\s]*)@", re.IGNORECASE)
_SHORTEST_SECRET = 6
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Variables:
    """travelling: those of the caller's shell that travel. given: by `-e`."""

    travelling: Mapping[str, str]
    given: Mapping[str, str]

    def base(self, home: Path) -> dict[str, str]:
        """The environment of every task of the run, before what belongs to its step."""
        mine = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME", "SHELL") if name in os.environ}
        return {
            **mine,
            "PATH": os.defpath,
            "TZ": "UTC",
            **self.travelling,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "GROUND_HOME": str(home),
            **self.given,
        }

    def confined(self, *, network: bool) -> dict[str, str]:
        """The same for the work of strangers: nothing of whoever's platform it is."""
        travelling = {name: value for name, value in self.travelling.items() if network or name not in OF_NETWORKS}
        return {
            "PATH": os.defpath,
            **travelling,
            "HOME": "/tmp",  # noqa: S108 - of its own
            "TZ": self.travelling.get("TZ", "UTC"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            **self.given,
        }

    def inside(self, *, network: bool) -> dict[str, str]:
        """The same for work in an image: nothing that speaks of this host's files."""
        wanted = _EVERYWHERE | OF_NETWORKS if network else _EVERYWHERE
        travelling = {name: value for name, value in self.travelling.items() if name in wanted}
        return {"TZ": "UTC", **travelling, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **self.given}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the `-e` values must not reach a log: those whose names say so, and the passwords in addresses."""
        found: list[str] = []
        for name, value in self.given.items():
            if _SECRET.search(name) and name not in _FOLDERS:
                found.append(value)
            for user in _USER_IN_URL.findall(value):
                password = user.partition(":")[2]
                found += [password, unquote(password)]
        return tuple(dict.fromkeys(secret for secret in found if len(secret) >= _SHORTEST_SECRET))


def for_step(parameters: Mapping[str, str], environment: Mapping[str, str], resources: Resources) -> dict[str, str]:
    """What a step adds: its parameters as GROUND_PARAM_*, its own variables, its share of the CPUs."""
    found = {variable_name(name): value for name, value in parameters.items()}
    if resources.cpus is not None:
        found.update(dict.fromkeys(_THREADS, str(max(1, int(resources.cpus)))))
    return {**found, **environment}


def seal(home: Path, connection: Connection, run_id: int, run: str, found: Variables) -> None:
    """Stores them for the run, readable only with the home's key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    body = json.dumps([dict(found.travelling), dict(found.given)]).encode()
    sealed = nonce + AESGCM(home_key(home)).encrypt(nonce, body, run.encode())
    variables.put(connection, run_id, sealed)


def unseal(home: Path, connection: Connection, run_id: int, run: str) -> Variables:
    """The run's variables. Raises Unavailable when they were sealed with another key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = variables.get(connection, run_id)
    if sealed is None:
        return Variables({}, {})
    try:
        body = AESGCM(home_key(home)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], run.encode())
    except InvalidTag as error:
        raise Unavailable(
            f"the variables of run {run} were sealed with another key",
            hint=f"put the key file {home / 'key'} of the control plane that took the run in place, or rerun it",
        ) from error
    travelling, given = json.loads(body)
    return Variables(travelling, given)


@lru_cache(maxsize=4)
def home_key(home: Path) -> bytes:
    """The home's key, made on first use; exactly one of several threads or processes that start at once makes it."""
    path = home / "key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        fresh = home / f"key.{os.getpid()}.{threading.get_ident()}"
        fresh.touch(mode=0o600)
        fresh.write_bytes(os.urandom(_KEY_BYTES))
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        return path.read_bytes()
