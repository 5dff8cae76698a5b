"""Profiles, and the jobs that only make them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "profile",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_profile_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profile")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_profile_project_id_key")),
    )
    with op.batch_alter_table("profile", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_profile_model_id"), ["model_id"], unique=False)
    op.add_column("job", sa.Column("dry_run", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("job", sa.Column("profile_key", sa.String(), nullable=True))
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_project_id_profile_key"), ["project_id", "profile_key"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_job_project_id_profile_key", "job")
    op.drop_column("job", "profile_key")
    op.drop_column("job", "dry_run")
    op.drop_table("profile")
