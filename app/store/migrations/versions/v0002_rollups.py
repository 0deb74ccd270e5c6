"""Roll-ups by the hour, filled from the records there are, and by the day; and an index of what is to be settled."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UNSETTLED = "usage_source IN ('none', 'estimated') AND generation_id IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "records_unsettled",
        "records",
        ["request_id"],
        sqlite_where=sa.text(_UNSETTLED),
        postgresql_where=sa.text(_UNSETTLED),
    )
    for name in ("rollups", "daily_rollups"):
        _make_rollups(name)
    op.execute(_FILL)
    op.create_table(
        "ledger_progress",
        sa.Column("kept_since", sa.BigInteger, nullable=False),
        sa.Column("folded_until", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO ledger_progress (kept_since, folded_until) VALUES (0, 0)")


def _make_rollups(name: str) -> None:
    op.create_table(
        name,
        sa.Column("begins_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("upstream", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("unknown_usage", sa.BigInteger, nullable=False),
        sa.Column("unknown_cost", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cached_input_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("total_tokens", sa.BigInteger),
        sa.Column("cost_nanousd", sa.BigInteger),
        sqlite_with_rowid=False,
    )


_FILL = """
INSERT INTO rollups
SELECT started_at / 3600000000 * 3600000000,
       client,
       coalesce(nullif(model_served, ''), nullif(model_requested, ''), ''),
       upstream,
       CASE WHEN outcome IN ('completed', 'rejected') THEN outcome ELSE 'other' END,
       count(*),
       count(*) FILTER (WHERE outcome <> 'rejected' AND (input_tokens IS NULL OR output_tokens IS NULL)),
       count(*) FILTER (WHERE outcome <> 'rejected' AND cost_nanousd IS NULL),
       sum(input_tokens),
       sum(cached_input_tokens),
       sum(cache_write_tokens),
       sum(output_tokens),
       sum(reasoning_tokens),
       sum(total_tokens),
       sum(cost_nanousd)
FROM records
WHERE outcome <> 'in_progress'
GROUP BY 1, 2, 3, 4, 5
"""
