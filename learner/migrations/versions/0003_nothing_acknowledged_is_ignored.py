"""Nothing acknowledged is ignored

Revisions are times in microseconds, which need 64 bits; judgements know the API key that sent them;
those without an answer are listed; attempts count how often they were tried. On the way down,
revisions made meanwhile become 0, since smaller numbers is all that the old column holds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("judgement", schema=None) as batch_op:
        batch_op.alter_column("revision", existing_type=sa.Integer(), type_=sa.BigInteger())
        batch_op.add_column(sa.Column("key_id", sa.String(), nullable=True))
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tries", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("problem", sa.Text(), nullable=True))
    op.create_table(
        "unmatched",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_unmatched")),
    )
    with op.batch_alter_table("unmatched", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_unmatched_since"), ["since"], unique=False)
    op.execute(
        "INSERT INTO unmatched (tenant, id, since) SELECT tenant, id, time FROM judgement WHERE"
        " NOT EXISTS (SELECT 1 FROM interaction i JOIN completion c ON c.interaction_id = i.id"
        " WHERE i.id = judgement.interaction_id AND i.tenant = judgement.tenant"
        " AND c.choice = judgement.choice)"
        " AND NOT EXISTS (SELECT 1 FROM interaction i WHERE i.tenant = judgement.tenant"
        " AND i.session_id = judgement.session_id)"
        " AND NOT EXISTS (SELECT 1 FROM retraction r WHERE r.tenant = judgement.tenant"
        " AND r.feedback_id = judgement.id)"
    )


def downgrade() -> None:
    op.drop_table("unmatched")
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.drop_column("problem")
        batch_op.drop_column("tries")
    op.execute("UPDATE judgement SET revision = 0 WHERE revision > 2147483647")
    with op.batch_alter_table("judgement", schema=None) as batch_op:
        batch_op.drop_column("key_id")
        batch_op.alter_column("revision", existing_type=sa.BigInteger(), type_=sa.Integer())
