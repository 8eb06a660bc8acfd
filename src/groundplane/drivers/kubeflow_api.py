"""A Kubeflow Pipelines server's API (v2beta1, as its OpenAPI has it).

*Untested* against a real server: there was none to be had. The tests have a stand-in that was built from the OpenAPI.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

from groundplane.model.errors import Invalid, Unavailable
from groundplane.spi.http import Connection, ConnectionLostError, Reply, tcp_socket

_ANSWERS_WITHIN = 20.0
_HELD_UP = frozenset({408, 429, 500, 502, 503, 504})
_PAGE = 100
_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


class Refused(Exception):
    """The server's own answer: `status` of HTTP, its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Server:
    """From any thread: a connection a request. Every method raises Refused, and Unavailable `backend_unavailable` when
    the server does not answer, or says that it cannot now.

    url: without the `/apis`. token: sent as bearer. token_file: one that somebody renews, read at each request.
    namespace: "" where the server has a single user.
    """

    def __init__(self, url: str, token: str = "", token_file: str = "", namespace: str = "") -> None:
        parted = urlsplit(url)
        if parted.scheme not in ("http", "https") or not parted.hostname or parted.query or parted.username:
            raise Invalid(f"{url!r} is no URL of a Kubeflow Pipelines server", hint="--url https://HOST[:PORT][/PATH]")
        self.url = url.rstrip("/")
        self.namespace = namespace
        self._token = token
        self._token_file = token_file

    # --- runs -----------------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> dict[str, Any] | None:
        """None when there is no such run (any more)."""
        return self._get(f"/apis/v2beta1/runs/{quote(run_id)}")

    def runs_called(self, name: str) -> list[dict[str, Any]]:
        """Those of that display name, the oldest first."""
        return sorted(self.runs({"display_name": name}), key=_age)

    def runs(self, equal: Mapping[str, str]) -> list[dict[str, Any]]:
        """Those whose fields are just so."""
        return list(self._listed("/apis/v2beta1/runs", "runs", equal))

    def create_run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The run, which begins."""
        return self.ask("POST", "/apis/v2beta1/runs", body=body)

    def terminate(self, run_id: str) -> None:
        """Nothing when it has ended, or is not there."""
        found = self.run(run_id)
        if found is not None and found.get("state") not in _FINAL:
            self.ask("POST", f"/apis/v2beta1/runs/{quote(run_id)}:terminate")

    def delete(self, run_id: str) -> None:
        self.ask("DELETE", f"/apis/v2beta1/runs/{quote(run_id)}")

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name; made when there is none."""
        for each in self._listed("/apis/v2beta1/experiments", "experiments", {"display_name": name}):
            return str(each["experiment_id"])
        body = {"display_name": name, **({"namespace": self.namespace} if self.namespace else {})}
        return str(self.ask("POST", "/apis/v2beta1/experiments", body=body)["experiment_id"])

    def log(self, run_id: str, node: str) -> bytes | None:
        """What the pod has printed so far, both streams in one; None when the server does not (or cannot) tell."""
        path = f"/apis/v1alpha1/runs/{quote(run_id)}/nodes/{quote(node)}/log"
        with self._connected(self.url, self._bearer()) as connection:
            reply = self._reply(connection, "GET", urlsplit(self.url).path + path, None)
            return self._body(reply) if reply.status == 200 else None

    # --- artifacts ------------------------------------------------------------------------------------------------

    def artifact(self, artifact_id: str) -> dict[str, Any]:
        """With its `download_url`."""
        return self.ask("GET", f"/apis/v2beta1/artifacts/{quote(artifact_id)}", {"view": "DOWNLOAD"})

    def gives_artifacts(self) -> bool:
        """Whether it serves them at all: not every release does."""
        query = {"max_result_size": "1", **({"namespace": self.namespace} if self.namespace else {})}
        try:
            self.ask("GET", "/apis/v2beta1/artifacts", query)
        except Refused as refused:
            if refused.status in (404, 405, 501):
                return False
            raise
        return True

    def download(self, url: str) -> Iterator[bytes]:
        """What lies at a `download_url`, which is signed: the token is not sent there, but to the server itself."""
        parted = urlsplit(url)
        if parted.scheme not in ("http", "https") or not parted.hostname:
            raise Refused(0, f"its download_url is none: {url[:200]!r}")
        own = parted[:2] == urlsplit(self.url)[:2]
        with self._connected(url, self._bearer() if own else None) as connection:
            target = (parted.path or "/") + (f"?{parted.query}" if parted.query else "")
            reply = self._reply(connection, "GET", target, None)
            if reply.status != 200:
                said = self._body(reply)[:300].decode(errors="replace")
                if reply.status in _HELD_UP:
                    raise self._away(f"{reply.status} {said}", f"{parted.scheme}://{parted.netloc}")
                raise Refused(reply.status, f"its store answers {reply.status}: {said}")
            try:
                yield from reply.pieces()
            except ConnectionLostError as error:
                raise self._away(str(error), f"{parted.scheme}://{parted.netloc}") from error

    # --- requests -------------------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request and its JSON."""
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        target = urlsplit(self.url).path + path + (f"?{urlencode(query)}" if query else "")
        with self._connected(self.url, self._bearer()) as connection:
            reply = self._reply(connection, method, target, content)
            found = self._body(reply)
        if 300 <= reply.status < 400:
            where = reply.headers.get("location", "elsewhere").partition("?")[0]
            raise Refused(401, f"it asks for a login at {where}")
        if reply.status in _HELD_UP:
            raise self._away(f"{reply.status} {_said(found)}")
        if reply.status >= 400:
            raise Refused(reply.status, _said(found))
        try:
            answer: Any = json.loads(found or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Refused(reply.status, "it answers, but not as Kubeflow Pipelines does: is it the right URL?")
        return cast("dict[str, Any]", answer)

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            return self.ask("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def _listed(self, path: str, key: str, equal: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        predicates = [{"key": name, "operation": "EQUALS", "string_value": value} for name, value in equal.items()]
        query = {"page_size": str(_PAGE), **({"namespace": self.namespace} if self.namespace else {})}
        if predicates:
            query["filter"] = json.dumps({"predicates": predicates})
        token = ""
        while True:
            found = self.ask("GET", path, {**query, **({"page_token": token} if token else {})})
            yield from found.get(key) or ()
            token = found.get("next_page_token", "")
            if not token:
                return

    def _bearer(self) -> str | None:
        if self._token_file:
            try:
                return Path(self._token_file).read_text().strip() or None
            except OSError as error:
                raise Unavailable(
                    f"the token file {self._token_file} cannot be read: {error.strerror}",
                    hint="is it there, and readable for the control plane?",
                    code="backend_unavailable",
                ) from error
        return self._token or None

    @contextmanager
    def _connected(self, url: str, token: str | None) -> Generator[Connection]:
        parted = urlsplit(url)
        tls, host = parted.scheme == "https", parted.hostname or ""
        port = parted.port or (443 if tls else 80)
        connection = Connection(lambda: tcp_socket(host, port, tls), parted.netloc, token, _ANSWERS_WITHIN)
        try:
            yield connection
        finally:
            connection.close()

    def _reply(self, connection: Connection, method: str, target: str, body: bytes | None) -> Reply:
        try:
            return connection.request(method, target, body)
        except ConnectionLostError as error:
            raise self._away(str(error)) from error

    def _body(self, reply: Reply) -> bytes:
        try:
            return reply.read()
        except ConnectionLostError as error:
            raise self._away(str(error)) from error

    def _away(self, said: str, where: str = "") -> Unavailable:
        return Unavailable(
            f"{where or f'the Kubeflow Pipelines server {self.url}'} does not answer: {said or 'it broke off'}",
            hint="is it up, and reachable from here?",
            code="backend_unavailable",
        )


def _age(run: Mapping[str, Any]) -> tuple[str, str]:
    return str(run.get("created_at", "")), str(run.get("run_id", ""))


def _said(body: bytes) -> str:
    """A googlerpcStatus' message, or whatever it says."""
    try:
        told: Any = json.loads(body)
        return str(told.get("message") or told.get("error_message") or told.get("error") or "")
    except (ValueError, AttributeError):
        return body[:300].decode(errors="replace")
