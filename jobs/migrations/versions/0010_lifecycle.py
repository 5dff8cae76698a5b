"""What a job came from and may be found again by: parent, cached results. What goes when. Answers by key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
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
    for table in ("model", "dataset", "artifact"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("expires_at", sa.Double(), nullable=True))
            batch_op.create_index(batch_op.f(f"ix_{table}_expires_at"), ["expires_at"], unique=False)
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.add_column(sa.Column("expired_at", sa.Double(), nullable=True))
    op.create_table(
        "replay",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("headers", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("body", sa.String(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_replay_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replay")),
        sa.UniqueConstraint("project_id", "path", "key", name=op.f("uq_replay_project_id_path_key")),
    )
    with op.batch_alter_table("replay", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_replay_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_table("replay")
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.drop_column("expired_at")
    for table in ("artifact", "dataset", "model"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_index(batch_op.f(f"ix_{table}_expires_at"))
            batch_op.drop_column("expires_at")
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_column("engine")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_project_id_cache_key"))
        batch_op.drop_column("engine")
        batch_op.drop_column("cached_from")
        batch_op.drop_column("cache_key")
        batch_op.drop_column("parent_job_id")
