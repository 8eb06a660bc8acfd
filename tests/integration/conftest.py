"""Control planes over SQLite and PostgreSQL, over the scripted fake and the real local driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from groundplane.drivers.local import LocalDriver
from groundplane.services import leases
from groundplane.store.database import sqlite_url
from tests.integration.agent_bench import agents_of
from tests.parts import require
from tests.planes import Ground, Shared


@pytest.fixture(scope="session")
def postgres():
    """One server a session."""
    require("postgres")
    from tests.postgres import server

    with server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "ground.db")
    return request.getfixturevalue("postgres").create()


@pytest.fixture
def ground(tmp_path: Path, database_url: str) -> Iterator[Ground]:
    """A control plane whose work is played by the fake driver."""
    home = tmp_path / "home"
    made = Ground(home, tmp_path / "project", database_url, Shared(home).seat()).start()
    yield made
    made.close()


@pytest.fixture
def local_on(tmp_path: Path) -> Iterator[Callable[[str], Ground]]:
    """Makes control planes whose work is real, on a database each."""
    made: list[Ground] = []

    def make(url: str) -> Ground:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        made.append(Ground(home, tmp_path / "project", url, LocalDriver(home)).start())
        return made[-1]

    yield make
    for each in made:
        each.close()
    end_agents(tmp_path / "home")


@pytest.fixture
def local(local_on: Callable[[str], Ground], database_url: str) -> Ground:
    """A control plane whose work is real."""
    return local_on(database_url)


def end_agents(home: Path) -> None:
    """Ends the home's agent with its work, and waits until it is gone."""
    if not agents_of(home):
        return
    driver = LocalDriver(home)
    driver.shutdown(end_work=True)
    driver.close()
    deadline = time.monotonic() + 20
    while agents_of(home):
        assert time.monotonic() < deadline, "the agent did not end"
        time.sleep(0.01)


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have gone are given up after a second and a half."""
    monkeypatch.setattr(leases, "DURATION", 1.5)
