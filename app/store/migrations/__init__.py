"""The migrations: alembic scripts, run by `app.store.sqlite.schema`."""
