"""A cluster's API: JSON objects over the connection that a kubeconfig describes."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

from groundplane.model.errors import Invalid, Unavailable

_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Pod": "/api/v1/{in}pods",
    "Secret": "/api/v1/{in}secrets",
    "Service": "/api/v1/{in}services",
    "ServiceAccount": "/api/v1/{in}serviceaccounts",
    "Event": "/api/v1/{in}events",
    "ResourceQuota": "/api/v1/{in}resourcequotas",
    "Job": "/apis/batch/v1/{in}jobs",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/{in}networkpolicies",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses",
    "SelfSubjectAccessReview": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "LocalQueue": "/apis/kueue.x-k8s.io/v1beta2/{in}localqueues",
    "ClusterQueue": "/apis/kueue.x-k8s.io/v1beta2/clusterqueues",
    "Workload": "/apis/kueue.x-k8s.io/v1beta2/{in}workloads",
    "DaemonSet": "/apis/apps/v1/{in}daemonsets",
}
_ANSWERS_WITHIN = 15.0
_WATCH_SECONDS = 280


class Refused(Exception):
    """The API server's own answer: `status` of HTTP, `code` (`AlreadyExists`), its words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Cluster:
    """To be used on one event loop. Every method raises Refused, and Unavailable `backend_unavailable` when the API
    server does not answer.

    kubeconfig: the text of one, without references to files. context: "" for its current one.
    """

    def __init__(self, kubeconfig: str, context: str = "") -> None:
        try:
            import httpx2
            from lightkube.config.client_adapter import user_auth, verify_cluster
            from lightkube.config.kubeconfig import KubeConfig
            from lightkube.core.exceptions import ConfigError
        except ImportError as error:
            raise Unavailable(
                f"the Kubernetes driver lacks a package: {error}", hint="pip install 'groundplane[kubernetes]'"
            ) from error
        try:
            given: Any = KubeConfig
            read: Any = given.from_dict(json.loads(kubeconfig)) if kubeconfig else given.from_service_account()
            config = read.get(context or None)
        except (ConfigError, KeyError, ValueError) as error:
            raise Invalid(f"the kubeconfig cannot be used: {error}", hint="kubectl config get-contexts") from error
        if config is None or config.user is None:
            raise Invalid("the kubeconfig names no user", hint="kubectl config view")
        self.server = config.cluster.server
        self.requests = 0
        """How many it was asked so far, streams among them."""
        self._errors: tuple[type[Exception], ...] = (httpx2.HTTPError, httpx2.StreamError, OSError)
        trusted = verify_cluster(config.cluster, config.user, config.abs_file)
        trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT  # clusters' own CAs lack what it wants, and kubectl takes them
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        within = httpx2.Timeout(_ANSWERS_WITHIN, pool=None)
        self._client = httpx2.AsyncClient(
            base_url=self.server, verify=trusted, auth=user_auth(config.user), limits=limits, timeout=within
        )
        self._of_watch = httpx2.Timeout(_ANSWERS_WITHIN, read=_WATCH_SECONDS + 20.0, pool=None)
        self._of_log = httpx2.Timeout(_ANSWERS_WITHIN, read=None, pool=None)  # work may print nothing for days

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        """One request and its JSON."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind} if content is not None else None
        self.requests += 1
        try:
            answer = await self._client.request(method, path, params=query, content=content, headers=headers)
        except self._errors as error:
            raise self._away(error) from error
        if answer.status_code >= 400:
            raise _refused(answer.status_code, answer.content)
        return answer.json() if answer.content else {}

    async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """None when it is not there."""
        try:
            return await self.ask("GET", f"{path_of(kind, namespace)}/{name}")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def listing(self, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> dict[str, Any]:
        """A list object: its `items` and `metadata.resourceVersion`. Empty where the cluster has no such kind."""
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        try:
            return await self.ask("GET", path_of(kind, namespace), query=query)
        except Refused as refused:
            if refused.status == 404:
                return {"items": [], "metadata": {}}
            raise

    async def create(self, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any] | None:
        """None when it is there already."""
        query = {"dryRun": "All"} if dry_run else None
        where = path_of(body["kind"], body["metadata"].get("namespace", ""))
        try:
            return await self.ask("POST", where, query=query, body=body)
        except Refused as refused:
            if refused.status == 409 and refused.code == "AlreadyExists":
                return None
            raise

    async def patch(self, kind: str, name: str, namespace: str, change: Mapping[str, Any]) -> None:
        """Merges."""
        await self.ask("PATCH", f"{path_of(kind, namespace)}/{name}", body=change, kind="application/merge-patch+json")

    async def delete(self, kind: str, name: str, namespace: str = "", grace: float | None = None) -> bool:
        """With all that belongs to it; False when it is not there."""
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = max(0, round(grace))
        try:
            await self.ask("DELETE", f"{path_of(kind, namespace)}/{name}", body=options)
        except Refused as refused:
            if refused.status == 404:
                return False
            raise
        return True

    async def watch(self, kind: str, namespace: str, labels: str, version: str) -> AsyncIterator[dict[str, Any]]:
        """Events since a resource version, until the server ends the stream. Refused 410: that is too old."""
        query: dict[str, str | int] = {
            "watch": 1,
            "labelSelector": labels,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _WATCH_SECONDS,
        }
        async for line in self._lines(path_of(kind, namespace), query, self._of_watch):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise Refused(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
            yield event

    async def log(self, pod: str, namespace: str, container: str) -> AsyncIterator[bytes]:
        """A container's lines from its start on, until it has ended."""
        query: dict[str, str | int] = {"container": container, "follow": "true"}
        async for line in self._lines(f"{path_of('Pod', namespace)}/{pod}/log", query, self._of_log):
            yield line

    async def _lines(self, path: str, query: Mapping[str, str | int], within: Any) -> AsyncIterator[bytes]:
        self.requests += 1
        try:
            async with self._client.stream("GET", path, params=query, timeout=within) as answer:
                if answer.status_code >= 400:
                    raise _refused(answer.status_code, await answer.aread())
                rest = b""
                async for piece in answer.aiter_raw():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        if line:
                            yield line
        except self._errors as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> Unavailable:
        said = str(error) or type(error).__name__
        other = "certificate" in said.lower()
        return Unavailable(
            f"the Kubernetes API server {self.server} does not answer: {said}",
            hint="is it another cluster than it was? add the backend again, with its kubeconfig of now"
            if other
            else "is it up, and reachable from here?",
            code="backend_unavailable",
        )


def path_of(kind: str, namespace: str = "") -> str:
    """Where objects of a kind are, in a namespace or in all."""
    return _PATHS[kind].replace("{in}", f"namespaces/{namespace}/" if namespace else "")


def _refused(status: int, body: bytes) -> Refused:
    try:
        told = json.loads(body)
        return Refused(status, str(told.get("reason", "")), str(told.get("message", "")))
    except (ValueError, AttributeError):
        return Refused(status, "", body[:300].decode(errors="replace"))
