"""Which calls are held: nobody has told what they came to, and so they count for budgets by their worst case."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("records", sa.Column("held", sa.Boolean))
    where = sa.text("held IS NOT NULL")
    op.create_index("records_held", "records", ["request_id"], sqlite_where=where, postgresql_where=where)
