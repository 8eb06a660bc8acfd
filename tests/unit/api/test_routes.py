"""Each route parses, calls one service and replies; each error has the one shape."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy.exc import OperationalError, StatementError

from groundplane.api.openapi import BODIES, REPLIES
from groundplane.model.documents import ArtifactDocument, RunPage, RunRequest
from groundplane.model.errors import Conflict, Denied, GroundError, Invalid, NotFound, Unavailable
from groundplane.services import (
    artifacts,
    attesting,
    backends,
    callers,
    compiling,
    connections,
    doctor,
    environment_views,
    forecasts,
    images,
    labels,
    licences,
    locking,
    policies,
    policy_trials,
    probing,
    projects,
    quotas,
    runs,
    secrets,
    spec,
    status,
    teams,
    tokens,
    toolchains,
    users,
)
from groundplane.services.audit import erasing, exporting, log, verifying, views
from tests.unit.api.asgi import Api
from tests.unit.api.documents import RUN, a_failure, a_run, a_task

REQUEST = {"target": "fit.R", "folder": "/data", "context": {"folder": "/data", "variables": {}}, "script": "fit.R"}
KEYS = {"type", "title", "status", "detail", "code", "hint", "fault"}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def test_put_gives_the_run_and_the_service_the_whole_request(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def submit(_: object, actor: Any, run_id: str, request: RunRequest) -> Any:
        seen.append((actor.name, run_id, request))
        return a_run("queued")

    monkeypatch.setattr(runs, "submit", submit)
    answer = api(
        "PUT", f"/api/v1/runs/{RUN}", {**REQUEST, "parameters": {"alpha": "$(x)"}, "cpus": 2, "arguments": ["--x"]}
    )
    assert (answer.status, answer.json()["id"]) == (200, RUN), "submitted long ago: the same run again"
    [(actor, run_id, request)] = seen
    assert run_id == RUN and actor
    assert request.parameters == {"alpha": "$(x)"} and request.cpus == 2 and request.arguments == ("--x",)


def test_a_new_run_is_created(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(runs, "submit", lambda *_: replace(a_run("queued"), submitted_at="2999-01-01T00:00:00.000000Z"))
    assert api("PUT", f"/api/v1/runs/{RUN}", REQUEST).status == 201


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"parametres": {}}, "parametres"),
        ({"context": {"folder": "/data", "variables": {}, "shell": "sh"}}, "context.shell"),
        ({"cpus": "many"}, "cpus"),
        ({"parameters": {"alpha": 1}}, "parameters.alpha"),
        ({"folder": None}, "folder"),
    ],
)
def test_a_wrong_key_is_named(api: Api, change: dict[str, Any], named: str) -> None:
    answer = api("PUT", f"/api/v1/runs/{RUN}", {**REQUEST, **change})
    assert answer.status == 422
    assert named in answer.json()["detail"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_a_body_that_is_none(api: Api, raw: bytes) -> None:
    answer = api("POST", "/api/v1/plans", raw=raw)
    assert (answer.status, answer.json()["code"]) == (422, "invalid")


def test_listing_hands_on_what_was_asked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(runs, "listing", lambda _, *args: asked.append(args) or RunPage((a_run(),), "17"))
    body = api("GET", "/api/v1/runs?state=failed&limit=3&cursor=20").json()
    assert [asked[0][1:]] == [("failed", 3, "20")]
    assert body["next"] == "17" and body["runs"][0]["id"] == RUN
    assert api("GET", "/api/v1/runs?limit=many").json()["detail"].startswith("query.limit")


def test_every_other_route_replies(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"\x00\xffdata")
    document = ArtifactDocument("fit/a é.csv", "fit", "a é.csv", "table", 6, "ab" * 32)
    monkeypatch.setattr(forecasts, "plan", lambda *_: {"plan": 1})
    monkeypatch.setattr(runs, "show", lambda *_: a_run())
    monkeypatch.setattr(runs, "cancel", lambda *_: a_run("cancelled"))
    monkeypatch.setattr(runs, "rerun", lambda *_: a_run("queued"))
    monkeypatch.setattr(artifacts, "listing", lambda *_: [document])
    monkeypatch.setattr(artifacts, "find", lambda _, actor, ref, name: (blob, document))
    monkeypatch.setattr(backends, "listing", lambda *_: [])
    monkeypatch.setattr(backends, "check", lambda _, actor, name: {"name": name})
    monkeypatch.setattr(toolchains, "listing", lambda _, actor, context: [dict(context.variables)])
    monkeypatch.setattr(toolchains, "show", lambda _, actor, name, context: {"name": name})
    monkeypatch.setattr(toolchains, "install", lambda *_: iter(["one", "two"]))
    monkeypatch.setattr(doctor, "examine", lambda _, actor, context: [{"folder": context.folder}])
    monkeypatch.setattr(status, "show", lambda *_: {"pid": 1})
    monkeypatch.setattr(status, "stop", lambda *_: None)
    monkeypatch.setattr(views, "listing", lambda _, actor, limit, cursor, **wanted: [limit, cursor, wanted])
    monkeypatch.setattr(views, "show", lambda _, actor, ref: {"id": ref})
    monkeypatch.setattr(exporting, "export", lambda _, actor, form, reveal: iter([f"{form} {reveal}".encode(), b"!"]))
    monkeypatch.setattr(log, "head", lambda *_: "note")
    monkeypatch.setattr(log, "key", lambda *_: "key")
    monkeypatch.setattr(
        verifying, "verify", lambda _, actor, given, progress: progress("one") or {"given": dict(given)}
    )
    monkeypatch.setattr(erasing, "forget", lambda *_: None)
    monkeypatch.setattr(spec, "schema", lambda: {"type": "object"})
    prefix = "/api/v1"
    assert api("POST", f"{prefix}/plans", REQUEST).json() == {"plan": 1}
    assert api("GET", f"{prefix}/runs/latest").json()["state"] == "succeeded"
    assert api("POST", f"{prefix}/runs/latest/cancel").json()["state"] == "cancelled"
    again = {"id": RUN, "context": {"folder": "/"}, "failed": True}
    assert api("POST", f"{prefix}/runs/latest/reruns", again).status == 201
    assert api("GET", f"{prefix}/runs/latest/artifacts").json()[0]["name"] == "fit/a é.csv"
    content = api("GET", f"{prefix}/runs/latest/artifacts/fit/a%20é.csv")
    assert content.body == b"\x00\xffdata" and content.headers["etag"] == f'"{"ab" * 32}"'
    assert api("GET", f"{prefix}/backends").json() == []
    assert api("POST", f"{prefix}/backends/local/check").json() == {"name": "local"}
    assert api("GET", f"{prefix}/toolchains?path=/opt/bin").json() == [{"PATH": "/opt/bin"}]
    assert api("GET", f"{prefix}/toolchains/r").json() == {"name": "r"}
    assert api("POST", f"{prefix}/toolchains/r/install").lines() == [{"line": "one"}, {"line": "two"}]
    assert api("POST", f"{prefix}/doctor", {"folder": "/x"}).json() == [{"folder": "/x"}]
    assert api("GET", f"{prefix}/status").json() == {"pid": 1}
    assert api("POST", f"{prefix}/shutdown", {"end_work": True}).status == 202
    wanted = {"action": "run.submit", "outcome": None, "person": "ada"}
    assert api("GET", f"{prefix}/audit/events?action=run.submit&person=ada").json() == [50, None, wanted]
    assert api("GET", f"{prefix}/audit/events/7").json() == {"id": "7"}
    assert api("GET", f"{prefix}/audit/export?format=cef&reveal=true").body == b"cef True!"
    assert api("GET", f"{prefix}/audit/checkpoint").json() == {"note": "note"}
    assert api("GET", f"{prefix}/audit/key").json() == {"key": "key"}
    told = api("POST", f"{prefix}/audit/verify", {"checkpoints": {"a": "b"}}).lines()
    assert told == [{"line": "one"}, {"result": {"given": {"a": "b"}}}]
    assert api("POST", f"{prefix}/audit/forget", {"person": "ada"}).json() == {"ok": True}
    assert api("GET", f"{prefix}/schema").json() == {"type": "object"}
    assert api("GET", f"{prefix}/health").json()["ok"] is True


@pytest.mark.parametrize(
    "name", [b"caf\xe9.csv", b"caf\xef\xbf\xbd.csv", b"two\nlines\n", b"\xff/\xfe", b"50%41.csv", b"a?b#c"]
)
def test_an_artifact_of_any_name_can_be_had(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: bytes
) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"data")
    seen: list[bytes] = []
    document = ArtifactDocument("t/x", "t", "x", "file", 4, "ab" * 32)
    monkeypatch.setattr(artifacts, "find", lambda *of: seen.append(os.fsencode(of[-1])) or (blob, document))
    answer = api("GET", f"/api/v1/runs/latest/artifacts/t/{quote(name)}", unquoted=True)
    assert (answer.status, answer.body) == (200, b"data") and seen == [b"t/" + name]
    assert answer.headers["content-disposition"].isascii()

    def find(_: object, actor: Any, ref: str, name: str) -> Any:
        raise NotFound(f"no {name}")

    monkeypatch.setattr(artifacts, "find", find)
    assert api("GET", f"/api/v1/runs/latest/artifacts/t/{quote(name)}", unquoted=True).status == 404


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT secret FROM runs", {"value": "hush"}, ValueError("no such column: runs.secret")),
        StatementError("no secret", "SELECT secret FROM runs", {"value": "hush"}, ValueError("no secret")),
    ],
)
def test_what_the_database_says_is_for_the_log_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: StatementError
) -> None:
    def show(*_: object) -> Any:
        raise error

    monkeypatch.setattr(runs, "show", show)
    answer = api("GET", "/api/v1/runs/latest")
    assert answer.status == 503 and answer.json()["detail"] == "the database refused a query"
    for word in (b"SELECT", b"hush", b"secret", b"Error"):
        assert word not in answer.body
    assert "SELECT secret" in caplog.text


def test_an_installation_that_fails_in_its_midst_ends_with_the_problem(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(*_: object) -> Any:
        yield "begun"
        raise Unavailable("apt failed", hint="try later")

    monkeypatch.setattr(toolchains, "install", install)
    first, last = api("POST", "/api/v1/toolchains/r/install").lines()
    assert first == {"line": "begun"} and last["problem"]["hint"] == "try later"


@pytest.mark.parametrize(
    ("error", "status"),
    [(Invalid("a", hint="b"), 422), (NotFound("a"), 404), (Conflict("a"), 409), (Denied("a"), 403),
     (Unavailable("a", code="no_space"), 503), (GroundError("a"), 500)],
)  # fmt: skip
def test_an_error_keeps_its_code_hint_and_fault(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: GroundError, status: int
) -> None:
    def show(*_: object) -> Any:
        raise error

    monkeypatch.setattr(runs, "show", show)
    answer = api("GET", "/api/v1/runs/latest")
    body = answer.json()
    assert (answer.status, body["status"]) == (status, status)
    assert (body["code"], body["hint"], body["fault"]) == (error.code, error.hint, str(error.fault))


def test_over_every_route_a_failure_has_the_one_shape(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service may raise unforeseen, and a method that a route does not take."""

    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("boom")

    for module, names in {
        runs: ("submit", "listing", "show", "cancel", "rerun", "find"), forecasts: ("plan",),
        callers: ("admit",),
        policies: ("listing", "add", "remove", "schema", "check", "explain"), policy_trials: ("test", "simulate"),
        artifacts: ("listing", "find", "declassify"), quotas: ("listing", "put", "remove"),
        labels: ("set_project",), backends: ("listing", "check", "add", "remove", "collect_garbage"),
        toolchains: ("listing", "show", "install"),
        doctor: ("examine",), status: ("show", "stop"), spec: ("schema",),
        licences: ("listing", "put", "remove"), locking: ("lock", "build", "pool"), attesting: ("attest",),
        environment_views: ("verify", "outdated", "listing", "show", "diff", "document", "signing_keys"),
        images: ("listing", "show", "prune", "push"), compiling: ("compile_",),
        users: ("whoami", "listing", "create", "set_", "enable"), teams: ("listing", "show", "create", "add", "remove"),
        projects: ("listing", "create"), tokens: ("listing", "create", "revoke"),
        views: ("listing", "show"), exporting: ("export",), log: ("head", "key"), verifying: ("verify",),
        erasing: ("forget",),
        secrets: ("listing", "put", "remove"), connections: ("listing", "put", "show", "remove"), probing: ("check",),
    }.items():  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, fail)
    bodies: dict[Any, Any] = {
        "RunRequest": REQUEST, "RerunRequest": {"id": RUN, "context": {"folder": "/"}}, "Context": {"folder": "/"},
        "ShutdownRequest": {}, "LicenceRequest": {"seats": 1}, "QuotaRequest": {"name": "x", "limits": {"gpus": 1}},
        "LabelsRequest": {"labels": ["phi"]},
        "Declassification": {"artifact": "x/y", "label": "phi", "reason": "z"},
        "BackendRequest": {"driver": "docker"},
        "EnvironmentRequest": {"folder": "/", "context": {"folder": "/"}, "spec": ""},
        "VerifyRequest": {}, "ForgetRequest": {"person": "ada"},
        "SecretRequest": {"value": "eA=="}, "ConnectionRequest": {"url": "postgresql://u@h/d"},
        "PushRequest": {"name": "x", "reference": "host.example/x"}, "PolicyText": {"text": ""},
        "PolicyRequest": {"name": "x", "text": ""}, "TrialRequest": {"cases": []}, "UserRequest": {}, "UserChange": {},
        "TeamRequest": {}, "ProjectRequest": {"team": "x"}, "TokenRequest": {},
    }  # fmt: skip
    seen = 0
    for method, path in api.routes():
        concrete = re.sub(r"\{[^}]+\}", "x", path)
        kind = BODIES.get((method, path.removeprefix("/api/v1")))
        if path != "/api/v1/health":
            query = (
                "?name=x"
                if path.endswith(("/images/show", "/folders", "/quotas"))
                else "?ref=x"
                if path.endswith("/explain")
                else ""
            )
            answer = api(method.upper(), concrete + query, None if kind is None else bodies[kind.__name__])
            assert answer.status == 500, (method, path, answer.body)
            check_problem(answer)
            assert "boom" in answer.json()["detail"]
        wrong = api("TRACE", concrete)
        assert wrong.status == 405
        check_problem(wrong)
        seen += 1
    assert seen == len(REPLIES) >= 20
    lost = api("GET", "/api/v1/nothing")
    assert lost.status == 404
    check_problem(lost)


def check_problem(answer: Any) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == KEYS
    assert answer.json()["fault"] in ("user", "backend", "platform")


def test_openapi_knows_what_each_route_takes_and_gives(api: Api) -> None:
    described = api("GET", "/api/v1/openapi.json").json()
    operations = {(method, path.removeprefix("/api/v1")) for method, path in api.routes()}
    assert operations == set(REPLIES), "api/openapi.py and the routes name the same operations"
    for method, path in REPLIES:
        operation = described["paths"]["/api/v1" + path][method]
        assert operation["summary"] and operation["description"], (method, path)
        assert ("requestBody" in operation) == ((method, path) in BODIES)
    text = json.dumps(described)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in described["components"]["schemas"], name
    assert "tasks" in described["components"]["schemas"]["RunDocument"]["properties"]


def test_a_large_run_keeps_all_that_it_says(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [a_task(f"score[{i}]", "failed", step="score", reason=a_failure()) for i in range(1000)]
    monkeypatch.setattr(runs, "show", lambda *_: a_run("failed", *tasks, reason=a_failure()))
    body = api("GET", "/api/v1/runs/latest").json()
    assert len(body["tasks"]) == 1000
    assert body["tasks"][999]["reason"]["fault"] == "user"


def test_a_name_that_is_no_utf8_travels(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from groundplane.spi import wire

    monkeypatch.setattr(runs, "show", lambda *_: a_run(name="caf\udce9.R"))
    assert wire.parse(api("GET", "/api/v1/runs/latest").body)["name"] == "caf\udce9.R"
