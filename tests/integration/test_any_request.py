"""Whatever is sent to a route, the answer is no internal error: schemathesis makes requests of what the API says of
itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from groundplane.api.actions import ACTIONS
from groundplane.services.access import Actor
from groundplane.store.database import sqlite_url
from tests.integration import accounts
from tests.integration.accounts import OpenApi
from tests.planes import ME, Ground, Shared

_FEW = settings(
    max_examples=12, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenApi]:
    folder: Path = tmp_path_factory.mktemp("any")
    home = folder / "home"
    ground = Ground(home, folder / "project", sqlite_url(folder / "ground.db"), Shared(home).seat()).start()
    ground.platform.stop = lambda: None
    with ground.platform.database.write() as connection:
        accounts.project(connection, "trial", "research")
        accounts.user(connection, "ana", ("research", "member"))
    ground.run('[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n')
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield OpenApi(ground.platform, monkeypatch)
    ground.close()


@pytest.mark.parametrize("actor", [ME, Actor("ana", "user")], ids=lambda actor: actor.kind)
@pytest.mark.parametrize(("method", "path"), ACTIONS)
def test_no_request_is_an_internal_error(api: OpenApi, method: str, path: str, actor: Actor) -> None:
    accounts.as_actor(actor)
    described = schemathesis.openapi.from_asgi("/api/v1/openapi.json", api.app)
    operation = described[f"/api/v1{path}"][method.upper()]
    wrong: list[str] = []

    @seed(7)
    @_FEW
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        answer = case.call()
        if answer.status_code >= 500 and b'"code":"internal"' in answer.content:
            wrong.append(f"{case.as_curl_command()}\n  {answer.text}")

    ask()
    assert not wrong, wrong[0]
