"""A log with events in it, and what somebody may do to the database behind its back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text

from groundplane.cli import audit_verifier
from groundplane.model.merkle import Tree, leaf_hash
from groundplane.services.access import Actor
from groundplane.services.audit import exporting, log, tell, verifying, witness
from groundplane.services.audit.signing import signer
from groundplane.services.platform import Platform
from groundplane.store.audit_tables import audit_log, events, people
from groundplane.store.database import Database

ADA = Actor("ada@lab", source="10.0.0.7", credential="t1")
READER = Actor("reader@lab", "owner", source="socket")
TABLES = (events, audit_log, people)


def platform_on(home: Path, url: str, **settings: Any) -> Platform:
    """A control plane's platform, without the rest of it."""
    home.mkdir(parents=True, exist_ok=True)
    return Platform(home=home, database=Database(url), drivers={}, **settings)


def grow(platform: Platform, count: int, name: str = "run") -> str:
    """So many more events, integrated and handed to the witness; the checkpoint."""
    for number in range(count):
        tell(platform, ADA, "run.submit", f"{name}-{number}", number=number)
    log.integrate(platform)
    assert witness.push(platform)
    return log.head(platform, READER)


def leaves(platform: Platform) -> list[str]:
    """What the log holds, in its order."""
    with platform.database.read() as connection:
        query = select(events.c.leaf).where(events.c.number.is_not(None)).order_by(events.c.number)
        return list(connection.execute(query).scalars())


def verify(platform: Platform, *checkpoints: str) -> dict[str, Any]:
    given = {f"kept-{number}": note for number, note in enumerate(checkpoints)}
    return verifying.verify(platform, READER, given, lambda line: None)


def verify_alone(
    platform: Platform, folder: Path, *checkpoints: str, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The export and those checkpoints, by the stand-alone program."""
    exported = folder / "log.jsonl"
    exported.write_bytes(b"".join(exporting.export(platform, READER, "jsonl", reveal=False)))
    return run_verifier(exported, folder, *checkpoints, key=key or log.key(platform, READER))


def run_verifier(exported: Path, folder: Path, *checkpoints: str, key: str) -> subprocess.CompletedProcess[str]:
    words: list[str] = []
    for number, note in enumerate(checkpoints):
        path = folder / f"checkpoint-{number}"
        path.write_text(note)
        words += ["--checkpoint", str(path)]
    program = folder / "verifier.py"
    program.write_bytes(Path(audit_verifier.__file__).read_bytes())  # alone: nothing of the package beside it
    argv = [sys.executable, "-I", str(program), *words, "--key", key, str(exported)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def dump(platform: Platform) -> dict[str, list[dict[str, Any]]]:
    """A backup of the log's tables."""
    with platform.database.read() as connection:
        return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in TABLES}


def restore(platform: Platform, kept: dict[str, list[dict[str, Any]]]) -> None:
    """Rolls the log's tables back to the backup."""
    with platform.database.write() as connection:
        for table in TABLES:
            connection.execute(table.delete())
            if kept[table.name]:
                connection.execute(insert(table), kept[table.name])


def hash_again(connection: Connection) -> None:
    """What somebody does who knows how the log works, and has only the database: every hash fits its leaf again."""
    for row in connection.execute(select(events.c.id, events.c.leaf).where(events.c.number.is_not(None))).all():
        hashed = leaf_hash(row.leaf.encode())
        connection.execute(events.update().where(events.c.id == row.id).values(hash=hashed))


def sign_again(platform: Platform, connection: Connection) -> None:
    """The same of somebody who has stolen the keys too: the database alone cannot tell any more."""
    mine, tree = signer(platform.home), Tree()
    rows = connection.execute(
        select(events.c.id, events.c.leaf).where(events.c.number.is_not(None)).order_by(events.c.number)
    ).all()
    for row in rows:  # out of the way of those that get their numbers first
        connection.execute(events.update().where(events.c.id == row.id).values(number=-1 - row.id))
    for row in rows:
        hashed = leaf_hash(row.leaf.encode())
        values = {"number": tree.size, "hash": hashed, "mark": mine.placed(tree.size, hashed)}
        connection.execute(events.update().where(events.c.id == row.id).values(values))
        tree.add(hashed)
    note = mine.sign(tree.size, tree.root())
    connection.execute(audit_log.update().values(size=tree.size, peaks=tree.peaks, note=note))


Attack = Callable[[Connection], None]


def edit(connection: Connection) -> None:
    connection.execute(text("UPDATE events SET leaf = replace(leaf, 'run-2', 'run-9') WHERE number = 2"))


def delete(connection: Connection) -> None:
    connection.execute(text("DELETE FROM events WHERE number = 2"))


def close_gap(connection: Connection) -> None:
    delete(connection)
    shift(connection, 3, -1)


def insert_one(connection: Connection) -> None:
    shift(connection, 2, 1)
    row = dict(connection.execute(select(events).where(events.c.number == 1)).mappings().one())
    leaf = row["leaf"].replace("run-1", "forged").replace(row["uid"], "forged")
    row |= {"id": 1000, "uid": "forged", "number": 2, "leaf": leaf}
    row["hash"] = sha256(b"\0" + row["leaf"].encode()).digest()
    connection.execute(insert(events), row)


def reorder(connection: Connection) -> None:
    for before, after in ((2, -1), (3, 2), (-1, 3)):
        connection.execute(events.update().where(events.c.number == before).values(number=after))


def truncate(connection: Connection) -> None:
    connection.execute(text("DELETE FROM events WHERE number >= 7"))


def shift(connection: Connection, start: int, by: int) -> None:
    rows = connection.execute(select(events.c.id, events.c.number).where(events.c.number >= start)).all()
    for row in sorted(rows, key=lambda row: -by * row.number):
        connection.execute(events.update().where(events.c.id == row.id).values(number=row.number + by))
