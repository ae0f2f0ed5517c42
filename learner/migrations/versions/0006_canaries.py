"""Canaries

Which arm answered whom, each canary and what became of it, and what was seen of each of its users.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "arm",
        sa.Column("interaction_id", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("challenger", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("interaction_id", name=op.f("pk_arm")),
    )
    op.create_index("ix_arm_canary", "arm", ["policy", "challenger", "subject"], unique=False)
    op.create_table(
        "canary",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("champion", sa.Integer(), nullable=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canary")),
    )
    op.create_index("ix_canary_policy", "canary", ["policy", "state"], unique=False)
    op.create_table(
        "canary_observation",
        sa.Column("canary_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("canary_id", "seq", name=op.f("pk_canary_observation")),
    )
    op.create_index(
        "ix_canary_observation_subject",
        "canary_observation",
        ["canary_id", "metric", "subject"],
        unique=False,
    )


def downgrade() -> None:
    for table in ("canary_observation", "canary", "arm"):
        op.drop_table(table)
