"""Whoever changes the log is found, and where: by somebody who can only write to the database, by somebody who knows
how the log works, and by somebody who has its keys; with `verify`, and with the program that stands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from groundplane.model.errors import Unavailable
from groundplane.services.access import Actor
from groundplane.services.audit import erasing, log, retention, tell, verifying, views
from groundplane.services.audit.signing import signer
from groundplane.services.platform import Platform
from groundplane.store.audit_tables import audit_log, events, people
from tests import audit_log as attacks
from tests.audit_log import (
    ADA,
    READER,
    dump,
    grow,
    hash_again,
    leaves,
    platform_on,
    restore,
    sign_again,
    verify,
    verify_alone,
)

SIZE = 9
"""Five events, and four more after a checkpoint."""


@pytest.fixture
def platform(tmp_path: Path, database_url: str) -> Iterator[Platform]:
    made = platform_on(tmp_path / "home", database_url, audit_witness=str(tmp_path / "elsewhere"))
    yield made
    made.database.close()


def uid(platform: Platform, number: int) -> str:
    with platform.database.read() as connection:
        return connection.execute(select(events.c.uid).where(events.c.number == number)).scalar_one()


def test_a_log_that_nobody_changed(platform: Platform, tmp_path: Path) -> None:
    old, new = grow(platform, 5), grow(platform, 4)
    found = verify(platform, old, new)
    assert (found["ok"], found["size"], found["checkpoints"]) == (True, SIZE, 4)
    done = verify_alone(platform, tmp_path, old, new)
    assert done.returncode == 0, done.stderr
    assert "VERIFIED: 9 events" in done.stdout
    grow(platform, 1)
    done = verify_alone(platform, tmp_path, new)
    assert done.returncode == 0 and "the last 1 events are newer than every checkpoint" in done.stdout


CHANGES = [
    (attacks.edit, 2),
    (attacks.delete, 2),
    (attacks.close_gap, 2),
    (attacks.insert_one, 2),
    (attacks.reorder, 2),
    (attacks.truncate, 7),
]


@pytest.mark.parametrize(("change", "number"), CHANGES)
@pytest.mark.parametrize("knowing", [False, True])
def test_a_change_in_the_database_is_named_without_any_checkpoint(
    platform: Platform, tmp_path: Path, change: attacks.Attack, number: int, knowing: bool
) -> None:
    platform.audit_witness = str(tmp_path / "empty")
    note = grow(platform, 5)
    for kept in (tmp_path / "empty").iterdir():
        kept.unlink()
    grow(platform, 4)
    for kept in (tmp_path / "empty").iterdir():
        kept.unlink()
    with platform.database.write() as connection:
        change(connection)
        if knowing:
            hash_again(connection)
    found = verify(platform)
    assert (found["ok"], found["number"]) == (False, number), found
    assert f"event {number}" in found["message"]
    if change in (attacks.edit, attacks.insert_one, attacks.reorder):
        assert found["id"] == uid(platform, number) and found["id"] in found["message"]
    done = verify_alone(platform, tmp_path, note, log_head(platform))
    assert done.returncode == 1, done.stdout
    assert "event" in done.stderr or "events" in done.stderr


# --- what stands beside the leaf --------------------------------------------------------------------------------------

COLUMNS = {
    "time": {"at": events.c.at + 1_000_000},
    "action": {"action": "run.see"},
    "outcome": {"outcome": "denied"},
    "actor": {"person": "01800000-0000-7000-8000-000000000000"},
    "actor, to nobody": {"person": None},
    "id": {"uid": "01800000-0000-7000-8000-000000000000"},
    "action, with the rest of it": {"action": events.c.action + '","actor":"x'},
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_a_column_that_is_not_what_the_log_says_is_found(platform: Platform, values: dict[str, Any]) -> None:
    note = grow(platform, 5)
    [column] = values
    named = {"at": "time", "uid": "id", "person": "actor"}.get(column, column)
    with platform.database.write() as connection:
        connection.execute(events.update().where(events.c.number == 3).values(values))
    found = verify(platform, note)
    assert (found["ok"], found["number"], found["id"]) == (False, 3, uid(platform, 3)), found
    assert f"its {named} in the database's columns is not that of the log" in found["message"]


def test_every_column_is_compared_or_chooses_nothing() -> None:
    compared = {"uid", "leaf", "number", "hash", "mark", "at", "action", "outcome", "person"}
    assert {column.name for column in events.columns} - compared == {"id"}, (
        "compare it in entries.py, and edit it above"
    )


def test_lists_go_by_the_log_whatever_the_key_of_a_row_is(platform: Platform) -> None:
    grow(platform, 5)
    before = [event["number"] for event in views.listing(platform, READER, 5, None)["events"]]
    for key in (-7, 2**62):
        with platform.database.write() as connection:
            connection.execute(events.update().where(events.c.number == 3).values(id=key))
        found, cursor = [], None
        while len(found) < 5:
            page = views.listing(platform, READER, 1, cursor)
            found += [event["number"] for event in page["events"]]
            cursor = page["next"]
        assert found == before == [4, 3, 2, 1, 0] and cursor is None


def test_an_event_below_the_log_is_found(platform: Platform) -> None:
    note = grow(platform, 3)
    with platform.database.write() as connection:
        row = dict(connection.execute(select(events).where(events.c.number == 1)).mappings().one())
        connection.execute(events.insert().values({**row, "id": 900, "uid": "forged", "number": -1}))
    found = verify(platform, note)
    assert (found["ok"], found["id"]) == (False, "forged") and "the number -1" in found["message"]


def test_an_older_head_put_back_is_found(platform: Platform) -> None:
    grow(platform, 3)
    with platform.database.read() as connection:
        old = dict(connection.execute(select(audit_log)).mappings().one())
    note = grow(platform, 2)
    with platform.database.write() as connection:
        connection.execute(audit_log.update().values(old))
    found = verify(platform, note)
    assert not found["ok"] and "the log's head was changed: it is of 3 events, and the log has 5" in found["message"]
    tell(platform, ADA, "run.submit", "later")
    with pytest.raises(Unavailable, match="it is an older one, of 3 events"):
        log.integrate(platform)
    assert not verify(platform, note)["ok"]


def test_retention_drops_nothing_of_a_log_that_was_changed(platform: Platform) -> None:
    note = grow(platform, 3)
    with platform.database.write() as connection:
        connection.execute(events.update().where(events.c.number < 2).values(at=1))
    platform.audit_retention = 365.0
    with pytest.raises(Unavailable, match=r"event 0 .* was changed: its time"):
        retention.expire(platform)
    assert len(leaves(platform)) == 3 and None not in leaves(platform)
    assert verify(platform, note)["number"] == 0


BEN = Actor("ben@lab", source="10.0.0.8")


def names_swapped(connection: Connection) -> None:
    for old, new in (("ada@lab", "x"), ("ben@lab", "ada@lab"), ("x", "ben@lab")):
        connection.execute(people.update().where(people.c.name == old).values(name=new))


def name_of_nobody(connection: Connection) -> None:
    connection.execute(people.update().where(people.c.name == "ada@lab").values(name="eve@lab"))


def key_of_another_home(connection: Connection) -> None:
    connection.execute(people.update().where(people.c.name == "ada@lab").values(under="0" * 16))


def key_damaged(connection: Connection) -> None:
    connection.execute(people.update().where(people.c.name == "ada@lab").values(sealed=b"k" * 60))


def key_gone(connection: Connection) -> None:
    connection.execute(people.delete().where(people.c.name == "ada@lab"))


@pytest.mark.parametrize("change", [names_swapped, name_of_nobody, key_of_another_home, key_damaged, key_gone])
def test_who_acted_cannot_be_called_otherwise(platform: Platform, change: Callable[[Connection], None]) -> None:
    tell(platform, BEN, "run.submit", "first")
    note = grow(platform, 3)
    with platform.database.write() as connection:
        change(connection)
    found = verify(platform, note)
    number = 0 if change is names_swapped else 1
    assert (found["ok"], found["number"], found["id"]) == (False, number, uid(platform, number)), found
    told = "no erasure told of it" if change is key_gone else "not whom the table of people says"
    assert told in found["message"]


def test_who_was_forgotten_is_no_finding(platform: Platform) -> None:
    grow(platform, 2)
    erasing.forget(platform, READER, ADA.name)
    note = grow(platform, 2)
    assert verify(platform, note)["ok"]
    with platform.database.write() as connection:
        key_gone(connection)
    assert verify(platform, note)["number"] == 3, "the key that was made since"


# --- with the keys ----------------------------------------------------------------------------------------------------


def log_head(platform: Platform) -> str:
    with platform.database.read() as connection:
        return connection.execute(select(audit_log.c.note)).scalar_one()


@pytest.mark.parametrize(("change", "number"), CHANGES)
def test_who_has_the_keys_is_found_by_checkpoints_kept_elsewhere(
    platform: Platform, tmp_path: Path, change: attacks.Attack, number: int
) -> None:
    empty, old = log.head(platform, READER), grow(platform, 5)
    new = grow(platform, 4)
    with platform.database.write() as connection:
        change(connection)
        sign_again(platform, connection)
    platform.audit_witness = str(tmp_path / "none")
    assert verify(platform)["ok"], "in itself it is whole: nothing in the database tells"
    found = verify(platform, empty, old, new)
    # What changed lies at or behind the last size at which the log agrees with what was signed.
    agreed = 0 if number < 5 else 5
    assert not found["ok"]
    if change is attacks.truncate:
        assert "the log has 7 events, and 9 were signed" in found["message"]
        assert "events 7 to 8 are gone" in found["message"] and found["number"] == 7
    else:
        assert f"the log agrees up to size {agreed}" in found["message"]
        assert (found["number"], found["id"]) == (agreed, uid(platform, agreed))
    done = verify_alone(platform, tmp_path, old, new)
    assert done.returncode == 1
    if change is attacks.truncate:
        assert "the log has 7 events" in done.stderr and "over 9" in done.stderr
        assert "2 are missing, at its end or anywhere from event 5 on" in done.stderr
    else:
        known = f": the first {agreed} are as signed, and" if agreed else ": at least one was changed"
        assert known in done.stderr
        last = 8 if agreed else 4
        assert f"from event {agreed} ({uid(platform, agreed)}) to event {last}. Checkpoints" in done.stderr


def test_a_database_rolled_back_is_found(platform: Platform, tmp_path: Path) -> None:
    grow(platform, 5)
    kept = dump(platform)
    note = grow(platform, 4)
    restore(platform, kept)
    for found in (verify(platform), verify(platform, note)):
        assert (found["ok"], found["number"]) == (False, 5)
        assert "the log has 5 events, and 9 were signed" in found["message"]
    done = verify_alone(platform, tmp_path, note)
    assert done.returncode == 1 and "the log has 5 events" in done.stderr and "over 9" in done.stderr
    assert "4 are missing, at its end or anywhere from event 0 on" in done.stderr


def test_signing_on_after_a_roll_back_is_found(platform: Platform, tmp_path: Path) -> None:
    grow(platform, 5)
    kept = dump(platform)
    note = grow(platform, 4)
    restore(platform, kept)
    newest = grow(platform, 6, "other")
    for found in (verify(platform), verify(platform, note)):
        assert (found["ok"], found["number"], found["id"]) == (False, 5, uid(platform, 5)), found
        assert "the first 9 events are not those" in found["message"]
        assert "the log agrees up to size 5" in found["message"]
    done = verify_alone(platform, tmp_path, note, newest)
    assert done.returncode == 1 and "the first 9 events are not those" in done.stderr


def test_two_roots_at_one_size_are_found(platform: Platform, tmp_path: Path) -> None:
    grow(platform, 5)
    kept = dump(platform)
    one = grow(platform, 4)
    restore(platform, kept)
    other = grow(platform, 4, "other")
    found = verify(platform)
    assert not found["ok"] and "two roots were signed at size 9" in found["message"]
    platform.audit_witness = str(tmp_path / "none")
    found = verify(platform, one, other)
    assert not found["ok"] and "two roots were signed at size 9: kept-0 and kept-1" in found["message"]
    done = verify_alone(platform, tmp_path, one, other)
    assert done.returncode == 1 and "two roots were signed at size 9" in done.stderr


def test_a_checkpoint_of_another_log_or_key_is_told(platform: Platform, tmp_path: Path, database_url: str) -> None:
    note = grow(platform, 3)
    (tmp_path / "foreign").mkdir()
    stranger = signer(tmp_path / "foreign")
    foreign = stranger.sign(3, b"r" * 32)
    found = verify(platform, foreign)
    assert not found["ok"] and f"its origin is {stranger.origin}" in found["message"]
    mine = signer(platform.home).origin
    renamed = foreign.replace(stranger.origin, mine)
    assert "not signed by this log's key" in verify(platform, renamed)["message"]
    damaged = note.replace("\n3\n", "\n4\n")
    assert "its signature is not that of this log's key" in verify(platform, damaged)["message"]
    assert "is not this log's" in verify(platform, "nonsense")["message"]
    for wrong in (foreign, renamed, damaged, "nonsense"):
        done = verify_alone(platform, tmp_path, wrong)
        assert done.returncode == 1 and "NOT VERIFIED" in done.stderr, done
    assert verify_alone(platform, tmp_path, note, key=stranger.verifier_key).returncode == 1
    assert verify_alone(platform, tmp_path, note, key="x+y+z").returncode == 1
    assert verify(platform, note)["ok"] and verify_alone(platform, tmp_path, note).returncode == 0


def test_a_stalled_log_is_told(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(platform, 3)
    signer.cache_clear()
    (platform.home / "keys" / "audit.key").unlink()
    key = (platform.home / "key").read_bytes()
    (platform.home / "key").write_bytes(key[::-1])
    from groundplane.services.variables import home_key

    home_key.cache_clear()
    try:
        tell(platform, ADA, "run.submit", "late")
        found = verify(platform)
        assert not found["ok"]
        with pytest.raises(Exception, match="this control plane's key is that of"):
            log.integrate(platform)
    finally:
        signer.cache_clear()
        home_key.cache_clear()
        (platform.home / "key").write_bytes(key)
        (platform.home / "keys" / "audit.key").unlink()
    monkeypatch.setattr(verifying, "_STALLED_MICROSECONDS", -1_000_000)
    assert "the log is stalled: 1 events wait for their place in it" in verifying.stalled_since(platform)


def head_moved(connection: Connection) -> None:
    connection.execute(audit_log.update().values(size=4, peaks=b"p" * 32))


def head_without_note(connection: Connection) -> None:
    connection.execute(audit_log.update().values(note=""))


def head_gone(connection: Connection) -> None:
    connection.execute(audit_log.delete())


@pytest.mark.parametrize("change", [head_moved, head_without_note, head_gone])
def test_nothing_is_added_to_a_head_that_was_not_signed(
    platform: Platform, change: Callable[[Connection], None]
) -> None:
    note = grow(platform, 5)
    with platform.database.write() as connection:
        change(connection)
    tell(platform, ADA, "run.submit", "later")
    found = verify(platform, note)
    assert not found["ok"], found


def test_a_forged_event_never_gets_a_place(platform: Platform) -> None:
    grow(platform, 2)
    with platform.database.write() as connection:
        row = dict(connection.execute(select(events).where(events.c.number == 1)).mappings().one())
        row |= {
            "id": 900,
            "uid": "forged",
            "number": None,
            "hash": None,
            "leaf": row["leaf"].replace("run-1", "forged"),
        }
        for name, mark in (("a", None), ("b", row["mark"]), ("c", b"")):
            connection.execute(events.insert().values({**row, "id": 900 + ord(name), "uid": name, "mark": mark}))
    real = tell(platform, ADA, "run.submit", "real")
    assert log.integrate(platform) == 1
    found = verify(platform)
    assert not found["ok"] and found["id"] == "a" and "no control plane wrote it so" in found["message"]
    assert uid(platform, 2) == real


def test_content_that_no_retention_dropped(platform: Platform) -> None:
    grow(platform, 5)
    with platform.database.write() as connection:
        connection.execute(events.update().where(events.c.number < 2).values(leaf=None))
    found = verify(platform)
    assert not found["ok"] and "event 0 has lost its content" in found["message"]
    with platform.database.write() as connection:
        connection.execute(events.update().where(events.c.number == 3).values(leaf=None))
    found = verify(platform)
    assert (found["ok"], found["number"], found["id"]) == (False, 3, uid(platform, 3))


def test_what_is_no_checkpoint_at_the_witness(platform: Platform, tmp_path: Path) -> None:
    grow(platform, 2)
    folder = tmp_path / "elsewhere"
    (folder / "groundplane-0123456789abcdef-1-1.checkpoint").write_text("that of another log, in the same place")
    assert verify(platform)["ok"]
    [name] = [path.name for path in folder.iterdir() if "0123456789abcdef" not in path.name]
    other = name.replace("-00000000000000000002-", "-00000000000000000001-")
    (folder / other).write_text("nonsense")
    found = verify(platform)
    assert not found["ok"] and "two roots" not in found["message"] and other in found["message"]
    (folder / other).rename(folder / "away")
    (folder / name.replace("-0000", "-x000")).write_text("nonsense")
    found = verify(platform)
    assert not found["ok"] and "is no name of a checkpoint" in found["message"]
