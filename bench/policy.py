"""A decision, with 200 rules of a firm's and 10,000 accounts: Cedar's own, and the gate's with what it reads."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import insert

from bench.figures import Figure, percentile
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.cedar import InForce, PolicyFile, Rules
from groundplane.services.objects import Launch, Principal, Resource
from groundplane.store import policies
from groundplane.store.account_tables import members, projects, teams, users
from groundplane.store.database import Database, sqlite_url

_USERS, _TEAMS, _RULES = 10_000, 200, 200


def measure() -> Iterator[Figure]:
    few, many = Rules([PolicyFile("firm", _text(3))]), Rules([PolicyFile("firm", _text(_RULES))])
    bare = percentile(list(_decisions(few, alike=False)), 0.5)
    p50, p99 = _both(list(_decisions(many, alike=True)))
    yield Figure(
        f"a decision of {_RULES} rules for each of {_USERS:,} users, p50 / p99", f"{_us(p50)} / {_us(p99)}",
        f"{_us(bare)} (3 rules)", f"{p50 / bare:.2f}", "p50 < 100 µs", p50 < 100e-6,
    )  # fmt: skip
    p50, p99 = _both(list(_decisions(many, alike=False)))
    yield Figure(
        f"one unlike any that {_RULES} rules have made", f"{_us(p50)} / {_us(p99)}",
        f"{_us(bare)} (3 rules)", f"{p50 / bare:.2f}", "-", None,
    )  # fmt: skip
    p50, p99 = _both(list(_questions()))
    yield Figure(
        "the gate's whole answer for an account, with its roles read from SQLite", f"{_us(p50)} / {_us(p99)}", "-", "-",
        "p50 < 100 µs", p50 < 100e-6,
    )  # fmt: skip


def _decisions(rules: Rules, *, alike: bool) -> Iterator[float]:
    """alike: each user asks once, many of a team; otherwise nobody's question is like another's to the rules."""
    for number in range(_USERS if alike else 1000):
        who, (action, on) = _principal(number), _question(number, 0)
        if not alike:
            on = replace(on, team=f"new{number}")
        started = time.perf_counter()
        rules.decide(who, action, on)
        yield time.perf_counter() - started


def _question(number: int, gpus: int) -> tuple[str, Resource | Launch]:
    team = f"t{number % _TEAMS}"
    if number % 2:
        return "run.submit", Launch(team, f"p-{team}", frozenset({"phi"}), gpus=gpus % 9, cpus=1 + gpus)
    return "artifact.read", Resource("run", f"r{gpus}", team, f"p-{team}", f"u{gpus}")


def _principal(number: int) -> Principal:
    team = frozenset({f"t{number % _TEAMS}"})
    return Principal(f"u{number}", "user", frozenset({"member"}), team, frozenset({"hipaa"}), frozenset({"phi"}))


def _text(count: int) -> str:
    """A firm's rules: half of them are about launches."""
    return "\n".join(
        f'@id("r{n}") forbid (principal, action == Action::"run.submit", resource) '
        f'when {{ resource.team == "t{n}" && resource.gpus > {n % 8} && !principal.clearance.contains("gpu") }};'
        if n % 2
        else f'@id("r{n}") forbid (principal, action in [Action::"log.read", Action::"artifact.read"], resource) '
        f'when {{ resource.team == "t{n}" && resource.labels.contains("pan") }};'
        for n in range(count)
    )


def _questions() -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "ground.db"))
        with database.write() as connection:
            connection.execute(insert(teams), [{"id": 1, "name": "platform", "parent_id": None, "created_at": 1}])
            rows = [{"id": n + 2, "name": f"t{n}", "parent_id": 1, "created_at": 1} for n in range(_TEAMS)]
            connection.execute(insert(teams), rows)
            rows = [{"name": f"p-t{n}", "team_id": n + 2, "created_at": 1} for n in range(_TEAMS)]
            connection.execute(insert(projects), rows)
            rows = [{"id": n + 1, "name": f"u{n}", "kind": "user", "created_at": 1} for n in range(_USERS)]
            connection.execute(insert(users), rows)
            role = {"role": "member", "origin": "local"}
            held = [{"team_id": n % _TEAMS + 2, "user_id": n + 1, **role} for n in range(_USERS)]
            connection.execute(insert(members), held)
            policies.put(connection, name="firm", text=_text(_RULES), sha256="-", actor="bench", at=1)
        platform: Any = SimpleNamespace(database=database, in_force=InForce())
        draw = random.Random(7)
        with database.read() as connection:
            for number in range(3000):
                who = draw.randrange(_USERS)
                action, on = _question(who, number % 3)
                started = time.perf_counter()
                decision = gate.decide(platform, connection, Actor(f"u{who}"), action, on)
                yield time.perf_counter() - started
                if decision.error:
                    raise RuntimeError(decision.error)
        database.close()


def _both(took: list[float]) -> tuple[float, float]:
    return percentile(took, 0.5), percentile(took, 0.99)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"
