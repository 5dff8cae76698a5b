"""Keys that expire and rotate, projects that can be deleted, quotas, and the seconds that jobs held hardware."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY_COLUMNS = {
    "expires_at": sa.Double(),
    "previous_hash": sa.String(),
    "previous_until": sa.Double(),
    "last_used_at": sa.Double(),
}
JOB_COLUMNS = {"hardware": sa.String(), "metered_at": sa.Double()}


def upgrade() -> None:
    op.create_table(
        "quota",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_quota_project_id")),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_quota")),
    )
    op.create_table(
        "usage",
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("hardware", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_usage_project_id")),
        sa.PrimaryKeyConstraint("project_id", "month", "hardware", name=op.f("pk_usage")),
    )
    op.add_column("project", sa.Column("deleted_at", sa.Double(), nullable=True))
    for table, columns in (("api_key", KEY_COLUMNS), ("job", JOB_COLUMNS)):
        for name, type_ in columns.items():
            op.add_column(table, sa.Column(name, type_, nullable=True))


def downgrade() -> None:
    for table, columns in (("job", JOB_COLUMNS), ("api_key", KEY_COLUMNS)):
        for name in columns:
            op.drop_column(table, name)
    op.drop_column("project", "deleted_at")
    op.drop_table("usage")
    op.drop_table("quota")
