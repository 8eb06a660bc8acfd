"""A page of 50 runs out of many, over the API, as the SDK gets it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

from sqlalchemy import insert, select

from bench.figures import Figure, ms, percentile
from bench.ground import Ground
from groundplane.client import Client
from groundplane.model.ids import new_id
from groundplane.store import tables
from groundplane.store.database import Database, sqlite_url

_PLANS = 500  # runs share plans as far as they were the same work
_BATCH = 20_000
_REQUESTS = 400


def measure() -> Iterator[Figure]:
    for count, limit in ((10_000, 0.010), (1_000_000, 0.050)):
        with Ground() as ground:
            ground.write("hello.py", "print('hello')\n")
            ground("run", "hello.py", "-p", "alpha=0.3")
            ground("down")
            fill(ground, count)
            took = list(pages(ground))
            bare = list(bare_pages(ground))
        p50, p99, own = percentile(took, 0.5), percentile(took, 0.99), percentile(bare, 0.5)
        yield Figure(
            f"50 of {count:,} runs, p50 / p99", f"{ms(p50)} / {ms(p99)}", f"{ms(own)} (SQL)", f"{p50 / own:.0f}",
            f"p99 < {ms(limit)}", p99 < limit,
        )  # fmt: skip


def fill(ground: Ground, count: int) -> None:
    """So many ended runs, by the store's own tables."""
    database = Database(sqlite_url(ground.home / "ground.db"))
    with database.write() as connection:
        row = dict(connection.execute(select(tables.runs)).mappings().one())
        body = connection.execute(
            select(tables.documents.c.body).where(tables.documents.c.digest == row["plan"])
        ).scalar_one()
        plans = [f"{number:064x}" for number in range(_PLANS)]
        connection.execute(insert(tables.documents), [{"digest": plan, "body": body} for plan in plans])
        del row["id"]
        for start in range(0, count, _BATCH):
            rows = [
                {**row, "uid": new_id(), "project": f"p{n % 20}", "plan": plans[n % _PLANS]}
                for n in range(start, min(count, start + _BATCH))
            ]
            connection.execute(insert(tables.runs), rows)
    database.close()


def pages(ground: Ground) -> Iterator[float]:
    """Seconds a page: the first one, and pages further down."""
    with Client(home=ground.home) as client:
        cursor: str | None = None
        for number in range(_REQUESTS + 20):
            started = time.monotonic()
            page = client.runs(limit=50, cursor=cursor)
            took = time.monotonic() - started
            if len(page.runs) != 50:
                raise RuntimeError(f"a page of {len(page.runs)} runs")
            cursor = page.next if number % 2 else None
            if number >= 20:
                yield took


def bare_pages(ground: Ground) -> Iterator[float]:
    """The query alone, in this process."""
    connection = sqlite3.connect(ground.home / "ground.db")
    for _ in range(_REQUESTS):
        started = time.monotonic()
        connection.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 51").fetchall()
        yield time.monotonic() - started
    connection.close()
