# SPDX-License-Identifier: Apache-2.0
"""Queue: sweeps, clones, jobs that wait for another one, retries, and who was told of an end."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sweep_id", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("parent_id", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("after_id", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("fixes", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("told_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_jobs_sweep_id"), ["sweep_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_after_id"), ["after_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_jobs_after_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_sweep_id"))
        for name in ("told_at", "fixes", "after_id", "parent_id", "sweep_id"):
            batch_op.drop_column(name)
