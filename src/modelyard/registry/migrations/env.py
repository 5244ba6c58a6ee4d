"""Alembic's entry: runs the steps in the connection and transaction that `Database` opened."""

from alembic import context

from modelyard.registry.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
