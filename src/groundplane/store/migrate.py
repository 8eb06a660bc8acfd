"""Brings an older database to this version's tables. Alembic is imported here alone: a database that is up to date
never pays for it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from groundplane.model.errors import Unavailable
from groundplane.store import tables


def configuration() -> Config:
    """Alembic's, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(engine: Engine, found: str) -> None:
    """Upgrades from `found` to tables.REVISION. Raises Unavailable for a revision that this version does not know."""
    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise Unavailable(
            f"the database is of a newer version (revision {found})",
            hint="use the Groundplane that wrote it, or a newer one; an older one would damage it",
        )
    with engine.execution_options(ground_write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, tables.REVISION)
