"""A kubeconfig as the control plane needs it: one context, without references to files of this machine."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from groundplane.model.errors import Invalid

_FILES = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
}


def read(file: str | None, context: str) -> str:
    """JSON of the context in the file, else in those that KUBECONFIG names, else in ~/.kube/config; "" where there is
    none and this runs in a pod: its service account counts then. context: "" for the current one. Raises Invalid."""
    named = [file] if file else [each for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    paths = [Path(each).expanduser() for each in named or ["~/.kube/config"]]
    if not named and not paths[0].exists() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return ""
    for path in paths:
        found = _parsed(path)
        wanted = context or found.get("current-context", "")
        chosen = next((each for each in found.get("contexts") or () if each["name"] == wanted), None)
        if chosen is not None:
            return json.dumps(_alone(found, chosen, path.parent))
    where = ", ".join(map(str, paths))
    what = f"no context {context!r}" if context else "no current context"
    raise Invalid(f"{where}: there is {what}", hint="kubectl config get-contexts; --kubeconfig FILE, --context C")


def storage_variables() -> str:
    """JSON of the variables of the caller that its storage is reached by."""
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION", "ENDPOINT_URL",
             "ENDPOINT_URL_S3", "CA_BUNDLE")  # fmt: skip
    return json.dumps({f"AWS_{name}": os.environ[f"AWS_{name}"] for name in names if os.environ.get(f"AWS_{name}")})


def _parsed(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise Invalid(f"the kubeconfig {path} cannot be read: {error.strerror}", hint="--kubeconfig FILE") from error
    except yaml.YAMLError as error:
        raise Invalid(f"{path} is no kubeconfig: {error}", hint="--kubeconfig FILE") from error
    if not isinstance(found, dict) or "clusters" not in found:
        raise Invalid(f"{path} is no kubeconfig", hint="--kubeconfig FILE")
    return cast("dict[str, Any]", found)


def _alone(found: Mapping[str, Any], context: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    inside = context["context"]
    clusters = [_inlined(each, "cluster", folder) for each in found["clusters"] if each["name"] == inside["cluster"]]
    users = [_inlined(each, "user", folder) for each in found.get("users") or () if each["name"] == inside.get("user")]
    return {"current-context": context["name"], "contexts": [context], "clusters": clusters, "users": users}


def _inlined(entry: Mapping[str, Any], what: str, folder: Path) -> dict[str, Any]:
    body = dict(entry[what])
    try:
        for name, inline in _FILES.items():
            if name in body:
                body[inline] = base64.b64encode((folder / body.pop(name)).read_bytes()).decode()
        if "tokenFile" in body:
            body["token"] = (folder / body.pop("tokenFile")).read_text().strip()
    except OSError as error:
        raise Invalid(f"the kubeconfig names a file that cannot be read: {error}", hint="--kubeconfig FILE") from error
    return {"name": entry["name"], what: body}
