"""Rewards are computed when they are learnt from

Their weight depends on who is trusted at that time, so a stored one was out of date at once. On the
way down the columns come back at weight 0: an answer counts again once it is judged anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("experience", schema=None) as batch_op:
        batch_op.drop_column("reward")
        batch_op.drop_column("weight")
        batch_op.drop_column("source")


def downgrade() -> None:
    with op.batch_alter_table("experience", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reward", sa.Double(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("weight", sa.Double(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("source", sa.String(), server_default="", nullable=False))
