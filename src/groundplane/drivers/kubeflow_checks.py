"""Whether a Kubeflow server can take work."""

from __future__ import annotations

from groundplane.drivers import kubeflow_reasons as reasons
from groundplane.drivers.kubeflow_api import Refused
from groundplane.drivers.kubeflow_backend import Backend
from groundplane.model.errors import Unavailable
from groundplane.spi.blobs import open_store
from groundplane.spi.driver import Health

UNTESTED = "untested against a real Kubeflow server"


def check(backend: Backend) -> Health:
    """Is it there, does it know who asks, and where do outputs come from?"""
    server = backend.server
    facts = {"server": server.url, "note": UNTESTED}
    try:
        about = server.ask("GET", "/apis/v2beta1/healthz")
        facts["version"] = str(about.get("tag_name") or about.get("commit_sha") or "not told")
        if about.get("multi_user") and not server.namespace:
            hint = "add the backend with yours: --namespace NS"
            return Health(False, "the server has several users, each with a namespace", hint, facts=facts)
        server.runs({"display_name": "groundplane"})
        if backend.storage:
            open_store(backend.storage, backend.variables).check()
            facts["artifacts"] = f"fetched from {backend.storage}"
        elif server.gives_artifacts():
            facts["artifacts"] = "fetched through its API"
        else:
            facts["artifacts"] = "its API gives none away: outputs stay there; add the backend with --storage"
    except Refused as refused:
        error = reasons.unavailable(refused)
        return Health(False, error.message, error.hint, facts=facts)
    except Unavailable as error:
        return Health(False, error.message, error.hint, facts=facts)
    facts["limits"] = "the cluster's"
    return Health(True, f"ready; {UNTESTED}", facts=facts)
