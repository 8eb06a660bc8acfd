"""Killed with kill -9 at random instants: nothing lost, nothing twice. bench/kill.py does the same for longer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.killing import Killing


@pytest.fixture
def killing(tmp_path: Path) -> Iterator[Killing]:
    made = Killing(tmp_path, seed=random.randrange(10**6))
    yield made
    made.close()


@pytest.mark.parametrize("victims", [("control",), ("agent",), ("control", "agent")])
def test_killed_at_random_instants(killing: Killing, victims: Sequence[str]) -> None:
    assert killing.round(victims, most=5) > 0
    assert all(killing.kills[victim] > 0 for victim in victims)
