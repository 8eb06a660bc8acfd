"""How much one address may ask for."""

from __future__ import annotations

import pytest

from groundplane.api import limits
from groundplane.api.limits import Rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: at[0])
    return at


def test_so_many_at_once_and_then_as_many_a_minute(clock: list[float]) -> None:
    rate = Rate(6)
    assert [rate.take("a") for _ in range(8)] == [True] * 6 + [False] * 2
    assert rate.over("a") and not rate.over("b") and rate.take("b")
    clock[0] += 10
    assert [rate.take("a") for _ in range(2)] == [True, False]
    clock[0] += 3600
    assert [rate.take("a") for _ in range(7)] == [True] * 6 + [False]


def test_it_remembers_no_more_than_it_may(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_KNOWN", 3)
    rate = Rate(1)
    assert all(rate.take(name) for name in "abcd")
    assert not rate.take("d") and not rate.take("c")
    assert rate.take("a"), "the one that was counted longest ago was forgotten"
