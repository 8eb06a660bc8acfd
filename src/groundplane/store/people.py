"""Where a person is named outside of the audit log: found, and called something else."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import Column, Connection, delete, select, update

from groundplane.store.account_tables import users
from groundplane.store.policy_tables import decisions, policies
from groundplane.store.secret_tables import secrets
from groundplane.store.tables import runs

_NAMED: tuple[Column[str], ...] = (runs.c.actor, policies.c.actor, secrets.c.set_by)


def is_named(connection: Connection, name: str) -> bool:
    """Whether an account, a run, a decision, a policy or a secret tells of that person."""
    queries = [select(column).where(column == name).limit(1) for column in (users.c.name, *_NAMED)]
    return any(connection.execute(query).first() for query in queries) or bool(_decisions(connection, name))


def rename(connection: Connection, name: str, instead: str) -> None:
    """Deletes the account with its tokens, sessions and roles; what the person did is that other name's. Of what was
    known of the person at a launch only what roles, training and clearance say is kept."""
    connection.execute(delete(users).where(users.c.name == name))
    # In the order in which all who change several runs take them, so that no two wait for each other.
    mine = select(runs.c.id).where(runs.c.actor == name).order_by(runs.c.id)
    connection.execute(mine.with_for_update(key_share=True)).all()
    for column in _NAMED:
        connection.execute(update(column.table).where(column == name).values({column: instead}))
    for run, body in _decisions(connection, name):
        body["principal"] |= {"name": instead, "attributes": []}
        for each in body["asked"]:
            each["error"] = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, each["error"])
        text = json.dumps(body, sort_keys=True)
        connection.execute(update(decisions).where(decisions.c.run == run).values(body=text))


def _decisions(connection: Connection, name: str) -> list[tuple[str, dict[str, Any]]]:
    """(run, body) of those on launches of the person's."""
    like = decisions.c.body.contains(json.dumps(name), autoescape=True)
    found = [(row.run, json.loads(row.body)) for row in connection.execute(select(decisions).where(like))]
    return [(run, body) for run, body in found if body["principal"]["name"] == name]
