"""Which calls were made in the background: their usage is told later, by their response."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UNSETTLED = "usage_source IN ('none', 'estimated') AND (generation_id IS NOT NULL OR background IS NOT NULL)"


def upgrade() -> None:
    op.add_column("records", sa.Column("background", sa.Boolean))
    op.drop_index("records_unsettled")
    op.create_index(
        "records_unsettled",
        "records",
        ["request_id"],
        sqlite_where=sa.text(_UNSETTLED),
        postgresql_where=sa.text(_UNSETTLED),
    )
