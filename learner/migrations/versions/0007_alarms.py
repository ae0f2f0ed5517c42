"""Alarms, and releases from quarantine

What the measures of served versions came to, which alarms opened and closed, and whom an admin has let out of
quarantine.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm_reading",
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("reference", sa.Double(), nullable=True),
        sa.Column("allowed", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("says", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "policy", "version", "name", "since", name=op.f("pk_alarm_reading")
        ),
    )
    op.create_index(
        op.f("ix_alarm_reading_policy"), "alarm_reading", ["policy", "at"], unique=False
    )
    op.create_table(
        "alarm",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("says", sa.Text(), nullable=False),
        sa.Column("closed_because", sa.Text(), nullable=True),
        sa.Column("silenced_until", sa.Double(), nullable=True),
        sa.Column("silenced_by", sa.String(), nullable=True),
        sa.Column("silenced_because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index(op.f("ix_alarm_policy"), "alarm", ["policy", "opened_at"], unique=False)
    op.create_table(
        "quarantine_release",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "person", "key_id", name=op.f("pk_quarantine_release")),
    )


def downgrade() -> None:
    op.drop_table("quarantine_release")
    op.drop_index(op.f("ix_alarm_policy"), table_name="alarm")
    op.drop_table("alarm")
    op.drop_index(op.f("ix_alarm_reading_policy"), table_name="alarm_reading")
    op.drop_table("alarm_reading")
