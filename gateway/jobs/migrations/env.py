"""Alembic's entry: runs on the connection that it is given. Run by Alembic only."""

from alembic import context

from gateway.jobs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
