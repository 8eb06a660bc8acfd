"""The SDK: one method a thing that the API can do. Synchronous; one instance a thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote, urlsplit

from groundplane.client import launcher
from groundplane.client.audit import AuditCalls
from groundplane.client.context import caller
from groundplane.client.labels import Labels
from groundplane.client.loglines import Joiner, Piece, log_line
from groundplane.client.paths import path as _path
from groundplane.client.policies import Policies
from groundplane.client.problems import error_of
from groundplane.client.projects import Projects
from groundplane.client.quotas import Quotas
from groundplane.client.secrets import Secrets
from groundplane.client.teams import Teams
from groundplane.client.tokens import Tokens
from groundplane.client.users import Users
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.ids import new_id
from groundplane.model.requests import EnvironmentRequest, PushRequest, RerunRequest, RunRequest
from groundplane.spi import wire
from groundplane.spi.http import Connection, ConnectionLostError, Reply, tcp_socket

if TYPE_CHECKING:
    from groundplane.model import documents
    from groundplane.model.documents import LogLine, ProgressDocument, RunDocument

    Event = tuple[Piece, ...] | ProgressDocument | RunDocument

T = TypeVar("T")

_PREFIX = "/api/v1"
_PATIENCE = 60.0
"""Seconds for which a request is repeated while this user's own control planes go away under it."""
_SHARED_PATIENCE = 2.0
_STREAM_PATIENCE = 60.0
_PAUSE = 0.02
_TAR = {"Content-Type": "application/x-tar"}


class Client(Users, Teams, Projects, Tokens, Policies, Quotas, Labels, AuditCalls, Secrets):
    """A control plane: the one at `url` (default GROUND_URL), else this user's own one, started when there is none.

    token: bearer for a shared one (default GROUND_TOKEN, else that of `ground login`). home: state of the own one
    (default GROUND_HOME).
    Every method raises a `groundplane.model.errors.GroundError`. Requests are repeated when the connection
    breaks: each is idempotent. Not for several threads at once.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, home: Path | None = None) -> None:
        self.url = url or os.environ.get("GROUND_URL") or None
        self.home = home or (None if self.url else launcher.home_folder())
        token = token or os.environ.get("GROUND_TOKEN", "").strip() or None
        if self.url is None:
            home_here = self.home or launcher.home_folder()
            self._connection = Connection(lambda: launcher.connect(home_here), "localhost", None)
        else:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Invalid(f"GROUND_URL {self.url!r} is no address", hint="write it like http://localhost:8080")
            if token is None:
                from groundplane.client import logins

                token = logins.token_for(self.url)
            host, tls = parts.hostname, parts.scheme == "https"
            port = parts.port or (443 if tls else 80)
            self._connection = Connection(lambda: tcp_socket(host, port, tls), parts.netloc.rpartition("@")[2], token)

    def close(self) -> None:
        """Ends the connection; a later call makes a new one."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Runs

    def submit(
        self, request: RunRequest, run_id: str | None = None, *, meanwhile: Callable[[], None] | None = None
    ) -> RunDocument:
        """Starts a run. The same id again is the same run. meanwhile: called while the answer is on its way."""
        body = self._json("PUT", _path("runs", run_id or new_id()), request, meanwhile=meanwhile)
        return wire.decode(_documents().RunDocument, body)  # in this order: the import can wait for the answer

    def plan(self, request: RunRequest) -> documents.PlanDocument:
        """What the run would do; nothing starts."""
        return self._ask(_documents().PlanDocument, "POST", "/plans", request)

    def compile(self, request: RunRequest, target: str) -> dict[str, str]:
        """The pipeline as a file for another system (`kubeflow`): `{"pipeline": …, "text": …}`."""
        return self._json("POST", _path("pipelines", "compile", target), request)

    def run(self, ref: str) -> RunDocument:
        """A run with its tasks. ref: id, unique beginning of an id, or `latest`."""
        return self._ask(_documents().RunDocument, "GET", _path("runs", ref))

    def runs(self, state: str | None = None, limit: int = 50, cursor: str | None = None) -> documents.RunPage:
        """A page of runs without their tasks, newest first."""
        return self._ask(_documents().RunPage, "GET", _path("runs", state=state, limit=limit, cursor=cursor))

    def cancel(self, ref: str) -> RunDocument:
        """Asks a run to end; one that has ended is left as it is."""
        return self._ask(_documents().RunDocument, "POST", _path("runs", ref, "cancel"))

    def rerun(
        self, ref: str, *, failed: bool = False, environment: Mapping[str, str] | None = None, run_id: str | None = None
    ) -> RunDocument:
        """A new run of an old one's snapshot and plan. failed: keeps what succeeded. environment: `-e` values anew."""
        request = RerunRequest(run_id or new_id(), caller(), dict(environment or {}), failed)
        return self._ask(_documents().RunDocument, "POST", _path("runs", ref, "reruns"), request)

    def wait(self, ref: str) -> RunDocument:
        """The run when it has ended."""
        for event in self.follow(ref, logs=False, progress=False):
            if isinstance(event, _documents().RunDocument):
                return event
        raise Unavailable(f"run {ref} was not followed to its end", hint="try again")

    def follow(self, ref: str, *, logs: bool = True, progress: bool = True, waiting: bool = False) -> Iterator[Event]:
        """What happens in a run from its start: pieces of its log, progress, and last the ended run.

        waiting: without progress, that of tasks which wait for something (a licence seat) comes all the same.
        Survives the control plane: a piece comes once, whoever dies in between.
        """
        cursor = ""
        while True:
            query = _path("runs", ref, "follow", logs=logs, progress=progress, waiting=waiting, cursor=cursor)
            for body in self._stream("GET", query, repeat=True):
                if "logs" in body:
                    cursor = body["cursor"]
                    yield tuple(_piece(part) for part in body["logs"])
                elif "progress" in body:
                    yield wire.decode(_documents().ProgressDocument, body["progress"])
                elif "run" in body:
                    yield wire.decode(_documents().RunDocument, body["run"])
                    return

    def pieces(self, ref: str, *, follow: bool = False, task: str | None = None) -> Iterator[tuple[Piece, ...]]:
        """A run's log as it was written. follow: until the run has ended."""
        cursor = ""
        while True:
            query = _path("runs", ref, "logs", form="pieces", follow=follow, task=task, cursor=cursor)
            for body in self._stream("GET", query, repeat=True):
                if body.get("end"):
                    return
                cursor = body["cursor"]
                yield tuple(_piece(part) for part in body["logs"])

    def logs(self, ref: str, *, follow: bool = False, task: str | None = None) -> Iterator[LogLine]:
        """A run's log line by line; an unfinished line comes last, or when the run has ended.

        Each is held in memory as a whole: for work that may print much without a newline there is `pieces`.
        """
        joiner = Joiner()
        for pieces in self.pieces(ref, follow=follow, task=task):
            for piece in pieces:
                yield from map(log_line, joiner.feed(piece))
        yield from map(log_line, joiner.rest())

    # Artifacts

    def artifacts(self, ref: str) -> tuple[documents.ArtifactDocument, ...]:
        """A run's artifacts."""
        return self._ask(tuple[_documents().ArtifactDocument, ...], "GET", _path("runs", ref, "artifacts"))

    def download(self, ref: str, name: str) -> Iterator[bytes]:
        """The content of the artifact TASK/NAME in pieces, checked against its digest at the end."""
        import hashlib

        reply = self._request("GET", f"/runs/{quote(ref, safe='')}/artifacts/{quote(name, errors='surrogateescape')}")
        digest = hashlib.sha256()
        try:
            for piece in reply.pieces():
                digest.update(piece)
                yield piece
        except ConnectionLostError as error:
            self._connection.close()
            raise Unavailable(f"the control plane went away while sending {name}", hint="try again") from error
        if reply.headers.get("etag", "").strip('"') != digest.hexdigest():
            raise Unavailable(f"{name} arrived damaged", hint="try again")

    # What there is

    def backends(self) -> tuple[documents.BackendDocument, ...]:
        """Every backend with its health as last known."""
        return self._ask(tuple[_documents().BackendDocument, ...], "GET", "/backends")

    def check_backend(self, name: str) -> documents.BackendDocument:
        """A backend's health, looked at now."""
        return self._ask(_documents().BackendDocument, "POST", _path("backends", name, "check"))

    def add_backend(
        self, name: str, driver: str, options: Mapping[str, str], *, region: str = "", encrypted: bool = False
    ) -> documents.BackendDocument:
        """Adds a backend; the same again changes nothing. options: as the driver has them. region, encrypted: what
        policies are told of it."""
        body = {"driver": driver, "options": dict(options), "region": region, "encrypted": encrypted}
        return self._ask(_documents().BackendDocument, "PUT", _path("backends", name), body)

    def collect_garbage(self, name: str | None = None) -> tuple[documents.GarbageDocument, ...]:
        """What was left on a backend (on all of them without a name), and is deleted now. Of all, one that fails is
        told in its document."""
        return self._ask(tuple[_documents().GarbageDocument, ...], "POST", _path("backends", "gc", name=name))

    def remove_backend(self, name: str) -> None:
        """Forgets a backend that was added."""
        self._json("DELETE", _path("backends", name))

    def licences(self) -> tuple[documents.LicenceDocument, ...]:
        """Every pool of licence seats, with who has them."""
        return self._ask(tuple[_documents().LicenceDocument, ...], "GET", "/licences")

    def set_licence(self, name: str, seats: int, server: str | None = None) -> documents.LicenceDocument:
        """Makes or changes an engine's pool. server: PORT@HOST, "" for none, None for the one that it has."""
        body = {"seats": seats, "server": server}
        return self._ask(_documents().LicenceDocument, "PUT", _path("licences", name), body)

    def remove_licence(self, name: str) -> None:
        """Forgets a pool: nothing waits for its seats any more."""
        self._json("DELETE", _path("licences", name))

    def toolchains(self) -> tuple[documents.ToolchainDocument, ...]:
        """Every toolchain with the engines on this process' PATH."""
        where = _path("toolchains", path=os.environ.get("PATH"))
        return self._ask(tuple[_documents().ToolchainDocument, ...], "GET", where)

    def toolchain(self, name: str) -> dict[str, Any]:
        """A toolchain with its catalogue: versions known, where each may come from, support end dates."""
        return self._json("GET", _path("toolchains", name, path=os.environ.get("PATH")))

    def install_toolchain(self, name: str) -> Iterator[str]:
        """Installs a toolchain's open engine; gives the lines of progress."""
        for body in self._stream("POST", _path("toolchains", name, "install"), repeat=False):
            yield body["line"]

    # Environments and images

    def environments(self, action: str, request: EnvironmentRequest) -> Any:
        """What `ground env ACTION` shows: list, show, diff, attest, sbom, provenance."""
        return self._json("POST", _path("environments", action), request)

    def work(self, path: tuple[str, ...], request: object = None) -> Iterator[Any]:
        """What takes long (environments: lock, build, pool, verify, outdated; images: push): `{"line": …}` of progress,
        last `{"result": …}`."""
        yield from self._stream("POST", _path(*path), request, repeat=False)

    def images(self) -> list[dict[str, Any]]:
        """Built images, newest first."""
        return self._json("GET", "/images")

    def image(self, name: str) -> dict[str, Any]:
        """One of them, by its name or the beginning of its digest."""
        return self._json("GET", _path("images", "show", name=name))

    def prune_images(self, *, everything: bool = False) -> dict[str, Any]:
        """Removes images that no recent run used; everything: that no open run uses. Gives removed, freed_bytes."""
        return self._json("POST", _path("images", "prune", everything=everything))

    def keys(self) -> list[dict[str, str]]:
        """name, algorithm, public_key of each key that signs."""
        return self._json("GET", "/keys")

    # The control plane

    def status(self) -> documents.StatusDocument:
        """Who answers."""
        return self._ask(_documents().StatusDocument, "GET", "/status")

    def health(self) -> dict[str, Any]:
        """That it answers, whatever else fails: `{"ok": True, "version": …, "pid": …}`."""
        return self._json("GET", "/health")

    def doctor(self) -> tuple[documents.Finding, ...]:
        """What the platform finds about this machine and this process' surroundings."""
        return self._ask(tuple[_documents().Finding, ...], "POST", "/doctor", caller())

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of ground.toml."""
        return self._json("GET", "/schema")

    def shutdown(self, *, end_work: bool = False) -> None:
        """Ends the control plane; running work runs on unless `end_work`. Starts none: call `health` before."""
        # Once: repeated after a lost answer, it would start the next one only to end it.
        try:
            reply = self._connection.request("POST", f"{_PREFIX}/shutdown", wire.encode({"end_work": end_work}))
            body = reply.read()
        except ConnectionLostError:
            return
        finally:
            self._connection.close()
        if reply.status >= 400:
            raise error_of(wire.parse(body), reply.status)

    # How

    def _ask(self, kind: type[T], method: str, path: str, body: object = None) -> T:
        return wire.decode(kind, self._json(method, path, body))

    def _json(self, method: str, path: str, body: object = None, *, meanwhile: Callable[[], None] | None = None) -> Any:
        limit = time.monotonic() + _PATIENCE
        while True:
            reply = self._request(method, path, body, meanwhile=meanwhile)
            try:
                return wire.parse(reply.read())
            except ConnectionLostError as error:
                self._again(error, limit)

    def _stream(self, method: str, path: str, request: object = None, *, repeat: bool) -> Iterator[Any]:
        """The JSON lines of an answer. A broken one just ends when `repeat`: the caller goes on where it was."""
        reply = self._request(method, path, request, stream=True)
        finished = False
        try:
            for line in reply.lines():
                body = wire.parse(line)
                if "problem" in body:
                    raise error_of(body["problem"])
                yield body
            finished = True
        except ConnectionLostError as error:
            if not repeat:
                raise Unavailable(f"the control plane went away: {error}", hint="try again") from error
            time.sleep(_PAUSE)
        finally:
            if not finished:  # what was not read would be in the way of the next answer
                self._connection.close()

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        stream: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> Reply:
        """An answer that is no problem. Repeats the request while the control plane goes away under it.

        body: a document, or what gives the pieces of a tar, anew for each try.
        """
        pieces = cast("Callable[[], Iterator[bytes]]", body) if isinstance(body, partial) else None
        data = None if body is None or pieces else wire.encode(self._sent(body))
        patience = _PATIENCE if self.url is None else _STREAM_PATIENCE if stream else _SHARED_PATIENCE
        limit = time.monotonic() + patience
        while True:
            try:
                where = path if path.startswith("/auth/") else _PREFIX + path
                given, headers = (pieces(), _TAR) if pieces else (data, None)
                reply = self._connection.request(
                    method, where, given, headers=headers, stream=stream, meanwhile=meanwhile
                )
                if reply.status < 400:
                    return reply
                problem = reply.read()
            except ConnectionLostError as error:
                self._again(error, limit)
                continue
            raise error_of(wire.parse(problem) if problem.startswith(b"{") else {}, reply.status)

    def _sent(self, body: Any) -> object:
        """The request, its folder sent ahead where the control plane does not see this machine's."""
        if self.url is None or not isinstance(body, RunRequest | EnvironmentRequest | PushRequest) or not body.folder:
            return body
        return replace(body, folder=self._send_folder(body.folder))

    def _send_folder(self, folder: str) -> str:
        from groundplane.client.uploading import packed

        where = _path("folders", name=os.path.basename(os.path.realpath(folder)) or "root")  # noqa: PTH119
        return self._json("POST", where, partial(packed, folder))["folder"]

    def _again(self, error: ConnectionLostError, limit: float) -> None:
        """Prepares the next try; raises Unavailable when the time for it is over."""
        self._connection.close()
        launcher.raise_if_failed()
        if time.monotonic() >= limit:
            where = f"at {self.url}" if self.url else f"of {self.home}"
            raise Unavailable(
                f"the control plane {where} does not answer: {error}",
                hint="is GROUND_URL right, and does it run?" if self.url else f"see {self.home}/control.log",
            ) from error
        time.sleep(_PAUSE)


def _documents():
    """What answers are made of; 14 ms that a request need not wait for."""
    from groundplane.model import documents

    return documents


def _piece(body: Mapping[str, Any]) -> Piece:
    data = body["text"].encode() if "text" in body else _from_base64(body["base64"])
    return Piece(body["task"], body["attempt"], body["stream"], body["at"], data, body["unfinished"])


def _from_base64(text: str) -> bytes:
    import binascii

    return binascii.a2b_base64(text)
