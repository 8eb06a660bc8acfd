"""Bytes by content, each stored once: plans of runs, components of reuse keys."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select

from groundplane.store import upserts
from groundplane.store.tables import documents


def put(connection: Connection, body: bytes) -> str:
    """Stores the body if it is new; its sha256 as hex."""
    digest = hashlib.sha256(body).hexdigest()
    if connection.execute(select(documents.c.digest).where(documents.c.digest == digest)).first() is None:
        upserts.keep(connection, documents, {"digest": digest, "body": body})
    return digest


def get(connection: Connection, digest: str) -> bytes | None:
    """The body with that digest, or None."""
    return connection.execute(select(documents.c.body).where(documents.c.digest == digest)).scalar_one_or_none()
