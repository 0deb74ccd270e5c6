"""Clients, keys and records. A migration is a picture of its day: it does not follow `app.store.schema.tables`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_clients()
    _make_keys()
    _make_records()
    op.create_index(
        "records_in_progress",
        "records",
        ["request_id"],
        sqlite_where=sa.text("outcome = 'in_progress'"),
        postgresql_where=sa.text("outcome = 'in_progress'"),
    )


def _make_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, sa.ForeignKey("clients.name"), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("replaced_by", sa.Text),
        sqlite_with_rowid=False,
    )


def _make_records() -> None:
    op.create_table(
        "records",
        sa.Column("request_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("model_requested", sa.Text),
        sa.Column("model_served", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cached_input_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("total_tokens", sa.BigInteger),
        sa.Column("cost_nanousd", sa.BigInteger),
        sa.Column("usage_source", sa.Text, nullable=False),
        sa.Column("cost_source", sa.Text),
        sa.Column("price", sa.Text),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("http_status", sa.BigInteger),
        sa.Column("response_id", sa.Text),
        sa.Column("generation_id", sa.Text),
        sa.Column("retry_count", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.Column("time_to_first_byte_ms", sa.Double),
        sa.Column("duration_ms", sa.Double),
        sa.Column("error_type", sa.Text),
        sqlite_with_rowid=False,
    )
