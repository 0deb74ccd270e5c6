"""Alembic runs this for each command; the connection, with its transaction, comes from `app.store.sqlite.schema`."""

from alembic import context

from app.store.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction spans all revisions, and is the caller's to commit
    render_as_batch=True,
)
context.run_migrations()
