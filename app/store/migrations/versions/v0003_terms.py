"""What is agreed with clients, and the groups that they may belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("terms", sa.Text))
    op.create_table(
        "client_groups",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
