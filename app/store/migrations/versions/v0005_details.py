"""More of each call: why it failed, what its cost lacks, ids, tries, tags, phases; labels of keys; the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TEXTS = (
    "transport",
    "upstream_key",
    "error_detail",
    "cost_detail",
    "upstream_request_id",
    "tries",
    "session",
    "program",
    "tags",
    "phases_ms",
)


def upgrade() -> None:
    for name in _TEXTS:
        op.add_column("records", sa.Column(name, sa.Text))
    op.add_column("records", sa.Column("demo", sa.Boolean))
    op.add_column("keys", sa.Column("label", sa.Text))
    op.add_column("keys", sa.Column("last_used_at", sa.BigInteger))
    op.create_table(
        "audit",
        sa.Column("audit_id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sqlite_with_rowid=False,
    )
