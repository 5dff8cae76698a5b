"""What a job came from and may be found again by: parent, retries, cached results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("parent_job_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("cache_key", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("cached_from", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("engine", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_job_project_id_cache_key"), ["project_id", "cache_key"], unique=False)
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("engine", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_column("engine")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_project_id_cache_key"))
        batch_op.drop_column("engine")
        batch_op.drop_column("cached_from")
        batch_op.drop_column("cache_key")
        batch_op.drop_column("parent_job_id")
