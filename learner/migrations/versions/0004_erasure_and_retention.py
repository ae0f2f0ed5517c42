"""Erasure and retention

Indexes by end user and by time, so that what is erased is found without reading everything; whom
was erased, so that their late events stay out; and an index of credits in the order they were given.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_interaction_user", "interaction", ["tenant", "user"]),
    ("ix_interaction_time", "interaction", ["time"]),
    ("ix_judgement_user", "judgement", ["tenant", "user"]),
    ("ix_judgement_time", "judgement", ["time"]),
    ("ix_credit_seq", "credit", ["seq"]),
)


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user", name=op.f("pk_erasure")),
    )
    for name, table, columns in INDEXES:
        op.create_index(op.f(name), table, columns, unique=False)


def downgrade() -> None:
    for name, table, _ in reversed(INDEXES):
        op.drop_index(op.f(name), table_name=table)
    op.drop_table("erasure")
