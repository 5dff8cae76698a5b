"""Which request and which trace made a job or an inspection, the device of its attempt, and the tallies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("job", "inspection"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("request_id", sa.String(), nullable=True))
            batch_op.add_column(sa.Column("traceparent", sa.String(), nullable=True))
            if table == "job":
                batch_op.add_column(sa.Column("ran_on", sa.String(), nullable=True))
    op.create_table(
        "tally",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tally")),
    )


def downgrade() -> None:
    op.drop_table("tally")
    for table in ("job", "inspection"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("traceparent")
            batch_op.drop_column("request_id")
            if table == "job":
                batch_op.drop_column("ran_on")
