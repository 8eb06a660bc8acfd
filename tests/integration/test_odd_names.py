"""Names that are no UTF-8 are names of nothing here: who asks for one is told so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from groundplane.model.errors import NotFound
from groundplane.services import backends, connections, licences, policies, secrets
from groundplane.services.platform import Platform
from tests.planes import ME, Ground, Shared

ODD = "caf\udce9"


@pytest.fixture
def platform(tmp_path: Path, database_url: str) -> Iterator[Platform]:
    home = tmp_path / "home"
    made = Ground(home, tmp_path / "project", database_url, Shared(home).seat()).start()
    yield made.platform
    made.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda platform: backends.check(platform, ME, ODD),
        lambda platform: backends.remove(platform, ME, ODD),
        lambda platform: connections.show(platform, ME, ODD, ODD),
        lambda platform: connections.remove(platform, ME, "db", ODD),
        lambda platform: licences.remove(platform, ME, ODD),
        lambda platform: policies.remove(platform, ME, ODD),
        lambda platform: secrets.remove(platform, ME, ODD, ODD),
    ],
)
def test_an_odd_name_names_nothing(platform: Platform, ask: Callable[[Platform], object]) -> None:
    with pytest.raises(NotFound):
        ask(platform)
