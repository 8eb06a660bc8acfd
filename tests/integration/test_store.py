"""The database: made whole or brought up to date, the same either way; questions that stay quick as it grows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Text, create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError

from groundplane.model.errors import Invalid, Unavailable
from groundplane.store import attempts, audit, policies, runs, tables, tasks, upserts
from groundplane.store.database import Database, sqlite_url
from groundplane.store.migrate import configuration
from groundplane.store.names import Name
from groundplane.store.rights import EVERYTHING, Visible
from tests.postgres import Postgres

REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009"]


@pytest.fixture
def second_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> str:
    """Another empty database of the same kind."""
    if database_url.startswith("sqlite"):
        return sqlite_url(tmp_path / "second.db")
    return request.getfixturevalue("postgres").create()


def migrated(url: str, revision: str = "head") -> None:
    """An empty database brought to a revision, step by step."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def schema(url: str) -> dict[str, Any]:
    """Everything that reflection tells."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    found: dict[str, Any] = {}
    with engine.connect() as connection:
        looking = inspect(connection)
        for table in looking.get_table_names():
            if table == tables.revision.name:
                continue
            found[table] = {
                "columns": [{**column, "type": str(column["type"])} for column in looking.get_columns(table)],
                "key": looking.get_pk_constraint(table)["constrained_columns"],
                "foreign": sorted(map(str, looking.get_foreign_keys(table))),
                "unique": sorted(map(str, looking.get_unique_constraints(table))),
                "indexes": sorted(
                    f"{index['name']} {index['column_names']} {index['unique']} "
                    + " ".join(f"{name}={option}" for name, option in index.get("dialect_options", {}).items())
                    for index in looking.get_indexes(table)
                ),
            }
    engine.dispose()
    return found


def revision_of(url: str) -> str:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    engine.dispose()
    return found


def test_a_migrated_database_equals_a_fresh_one(database_url: str, second_url: str) -> None:
    Database(database_url).close()
    migrated(second_url)
    assert revision_of(database_url) == revision_of(second_url) == tables.REVISION
    fresh = schema(database_url)
    assert "runs" in fresh
    assert fresh == schema(second_url)


def test_the_last_revision_is_the_one_of_the_tables() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(configuration())
    assert script.get_current_head() == tables.REVISION
    assert [each.revision for each in script.walk_revisions()][::-1] == REVISIONS


def test_a_database_from_the_future_is_left_alone(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(Unavailable) as refused:
        Database(database_url)
    assert refused.value.exit_code == 3
    assert "newer version (revision 9999)" in refused.value.message
    assert refused.value.hint


def test_two_that_start_on_an_empty_database_make_it_once(postgres: Postgres) -> None:
    url = postgres.create()
    code = f"from groundplane.store.database import Database; Database({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert revision_of(url) == tables.REVISION


def test_alembic_is_not_imported_for_a_database_that_is_up_to_date(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "ground.db")
    Database(url).close()
    code = f"""if True:
        import sys
        from groundplane.store.database import Database
        Database({url!r})
        print('alembic' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:////nonexistent/folder/ground.db", Unavailable),
        ("postgresql://nobody@127.0.0.1:9/none", Unavailable),
        ("mysql://x", Invalid),
        ("no url", Invalid),
    ],
)
def test_a_database_that_cannot_be_used_is_told(url: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as refused:
        Database(url)
    assert isinstance(refused.value, (Unavailable, Invalid))
    assert refused.value.hint


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "ground.db"))
    assert database.shown_url == f"sqlite:///{tmp_path}/ground.db"
    database.close()
    with pytest.raises(Unavailable) as refused:
        Database("postgresql://me:tops3cret@127.0.0.1:9/x")
    assert "tops3cret" not in refused.value.message + refused.value.hint


SOME = Visible(created=frozenset({("team", "project")}), uncreated=True)
QUESTIONS = {
    "claimable": lambda c: tasks.claimable(c, "local", "here", 10),
    "all_held": lambda c: attempts.all_held(c, "me"),
    "held": lambda c: attempts.held(c, "me", ["a"]),
    "with_ready": lambda c: tasks.with_ready(c, 2, "here"),
    "reusable": lambda c: tasks.reusable(c, "key", ""),
    "of_run": lambda c: tasks.of_run(c, 1),
    "artifacts": lambda c: tasks.artifacts_of_run(c, 1),
    "by_uid": lambda c: runs.by_uid(c, "a"),
    "by_prefix": lambda c: runs.by_prefix(c, "a", EVERYTHING),
    "by_prefix of some": lambda c: runs.by_prefix(c, "a", SOME),
    "of_state of some": lambda c: runs.page(c, "failed", 7, 50, SOME),
    "decided": lambda c: policies.launched(c, 7),
    "of_state": lambda c: runs.page(c, "failed", 7, 50, EVERYTHING),
    "count_open": lambda c: runs.count_open(c),
    "waiting events": lambda c: audit.waiting(c, 0, 10),
    "some events wait": lambda c: audit.some_wait(c),
    "entries": lambda c: audit.numbered(c, 7, 10),
    "event": lambda c: audit.by_uid(c, "a"),
    "entry": lambda c: audit.by_number(c, 7),
    "people": lambda c: audit.people_of(c, ["a"]),
    "person": lambda c: audit.person(c, "a", "b"),
    "adopt": lambda c: attempts.adopt(c, "me", "here", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_of_every_day_looks_at_every_row(tmp_path: Path, name: str) -> None:
    database = Database(sqlite_url(tmp_path / "ground.db"))
    asked: list[tuple[str, Any]] = []
    with database.write() as connection:
        event.listen(connection, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))
        QUESTIONS[name](connection)
        (statement, parameters), *_ = asked
        plan = [row[-1] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]
    database.close()
    scans = [line for line in plan if line.startswith("SCAN") and "USING" not in line and "control_planes" not in line]
    scans = [line for line in scans if line != "SCAN CONSTANT ROW"]  # of the values that were asked for
    assert not scans, plan


def test_rows_are_replaced_or_kept(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as connection:
        upserts.replace(connection, tables.pins, [{"sha256": "b", "at": 1}, {"sha256": "a", "at": 1}])
        upserts.replace(connection, tables.pins, [{"sha256": "b", "at": 2}, {"sha256": "c", "at": 2}])
        upserts.replace(connection, tables.pins, [])
        upserts.keep(connection, tables.pins, {"sha256": "a", "at": 9})
        found = dict(connection.execute(text("SELECT sha256, at FROM pins")).all())  # type: ignore[arg-type]
    database.close()
    assert found == {"a": 1, "b": 2, "c": 2}


def test_a_write_is_all_or_nothing(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        upserts.keep(connection, tables.pins, {"sha256": "a", "at": 1})
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM pins")).scalar_one() == 0
    database.close()


def test_a_write_that_fails_at_its_commit_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "ground.db"))
    with database.write() as connection:
        upserts.keep(connection, tables.pins, {"sha256": "kept", "at": 1})
    with pytest.raises(IntegrityError), database.write() as connection:  # SQLite leaves the transaction open
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(tables.variables.insert().values(run_id=7, sealed=b""))
        upserts.keep(connection, tables.pins, {"sha256": "lost", "at": 1})
    with database.write() as connection:
        upserts.keep(connection, tables.pins, {"sha256": "next", "at": 1})
    with database.read() as connection:
        assert set(connection.execute(text("SELECT sha256 FROM pins")).scalars()) == {"kept", "next"}
    database.close()


@pytest.mark.parametrize("name", ["plain", "é 漢 🦀", "odd\udcff\udc80"])
def test_any_file_name_comes_back(database_url: str, name: str) -> None:
    database = Database(database_url)
    with database.write() as connection:
        connection.execute(tables.documents.insert().values(digest="d", body=b""))
        row: dict[str, Any] = {
            column.name: "x" if isinstance(column.type, (Text, Name)) else 0
            for column in tables.runs.columns
            if not column.nullable and column.name not in ("id", "cancelled")
        }
        row |= {"name": name, "plan": "d"}
        runs.add(connection, row, [])
        found = runs.by_uid(connection, "x")
        by_name = connection.execute(tables.runs.select().where(tables.runs.c.name == name)).all()
    database.close()
    assert found is not None
    assert found.name == name
    assert len(by_name) == 1
