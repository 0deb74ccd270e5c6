"""The tables, in SQLAlchemy Core: the one source of every statement, for SQLite and PostgreSQL alike.

Times are integer microseconds since 1970 UTC, money integer nano-dollars; NULL means unknown.
"""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()


def _usage_and_cost() -> list[sa.Column[Any]]:
    """The usage and the cost of one call, or of many."""
    names = (
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "total_tokens",
        "cost_nanousd",
    )
    return [sa.Column(name, sa.BigInteger) for name in names]


clients = sa.Table(
    "clients",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("disabled_at", sa.BigInteger),
    sa.Column("terms", sa.Text),
    sa.Column("deleted_at", sa.BigInteger),  # the row stays: keys and records name the client
    sqlite_with_rowid=False,
)

# `terms`, here and of clients, is JSON as app.domain.money.terms writes it; NULL means that nothing is agreed.
groups = sa.Table(
    "client_groups",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("terms", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, sa.ForeignKey("clients.name"), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
    sa.Column("replaced_by", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("last_used_at", sa.BigInteger),
    sqlite_with_rowid=False,
)

# Who changed what: keys, limits, clients, streams that an operator ended. `subject` is what was changed (a client, a
# key id, a request id), `detail` is JSON and holds no secret.
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("audit_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    sqlite_with_rowid=False,
)

# Columns that reports add up come first: SQLite decodes a row from the left, up to the last column that is read.
# Ids sort by time, byte by byte, so ranges of time need no second index.
records = sa.Table(
    "records",
    metadata,
    sa.Column("request_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("model_requested", sa.Text),
    sa.Column("model_served", sa.Text),
    sa.Column("outcome", sa.Text, nullable=False),
    *_usage_and_cost(),
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
    sa.Column("background", sa.Boolean),  # NULL for a call that was not
    sa.Column("transport", sa.Text),  # NULL for HTTP
    sa.Column("upstream_key", sa.Text),
    sa.Column("error_detail", sa.Text),
    sa.Column("cost_detail", sa.Text),
    sa.Column("upstream_request_id", sa.Text),
    sa.Column("tries", sa.Text),
    sa.Column("session", sa.Text),
    sa.Column("program", sa.Text),
    sa.Column("tags", sa.Text),
    sa.Column("phases_ms", sa.Text),
    sa.Column("demo", sa.Boolean),  # NULL for a call that costs real money
    sa.Column("held", sa.Boolean),  # NULL unless nobody has told what it came to: it counts by its worst case
    sqlite_with_rowid=False,
)

IN_PROGRESS = sa.literal_column("'in_progress'", sa.Text)
"""Written out, not bound: the planner takes a partial index only for a literal."""

NOT_TOLD = [sa.literal_column("'none'", sa.Text), sa.literal_column("'estimated'", sa.Text)]
"""The same for another index: the sources of a usage that upstream has not told."""

# Finds the calls that an ended process left open, without reading the whole ledger. It holds no settled rows.
sa.Index(
    "records_in_progress",
    records.c.request_id,
    sqlite_where=records.c.outcome == IN_PROGRESS,
)

RECONCILABLE = sa.or_(records.c.generation_id.is_not(None), records.c.background.is_not(None))
"""Upstream may tell the usage of these calls afterwards."""

# Finds the calls whose usage upstream may still tell. It holds no metered calls.
sa.Index(
    "records_unsettled",
    records.c.request_id,
    sqlite_where=sa.and_(records.c.usage_source.in_(NOT_TOLD), RECONCILABLE),
)

# Finds the calls that are held.
sa.Index("records_held", records.c.request_id, sqlite_where=records.c.held.is_not(None))


def _sums() -> list[sa.Column[Any]]:
    return [
        sa.Column("begins_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("upstream", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("unknown_usage", sa.BigInteger, nullable=False),
        sa.Column("unknown_cost", sa.BigInteger, nullable=False),
        *_usage_and_cost(),
    ]


# The ledger added up by the hour, kept for good, and by the day, for days that are over. `begins_at` is the first
# microsecond of the hour or day. `model` is the one served, or else requested ('' when neither is known). `kind` is
# made from the outcome (app.store.schema.rollups). Open calls are not counted. A sum is NULL when no request has it.
hours = sa.Table("rollups", metadata, *_sums(), sqlite_with_rowid=False)
days = sa.Table("daily_rollups", metadata, *_sums(), sqlite_with_rowid=False)

# One row. Records that began before `kept_since`, the beginning of an hour, may have been deleted; days before
# `folded_until` are in `daily_rollups`.
progress = sa.Table(
    "ledger_progress",
    metadata,
    sa.Column("kept_since", sa.BigInteger, nullable=False),
    sa.Column("folded_until", sa.BigInteger, nullable=False),
)
