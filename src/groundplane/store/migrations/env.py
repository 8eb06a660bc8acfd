"""Run by Alembic inside the transaction that store/migrate.py opened."""

from alembic import context

from groundplane.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
