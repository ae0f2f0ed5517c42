"""Receipts of erasures

What was removed where, and which versions held it. Who was erased is kept by pseudonym from now on, which is
enough to recognise their late events; the way down forgets whom that was, and takes their late events in.
"""

import sqlalchemy as sa
from alembic import op
from burnish.feedback.stream.user_keys import pseudonym

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    erased = connection.execute(sa.text('SELECT tenant, "user", until FROM erasure')).all()
    op.drop_table("erasure")
    made = op.create_table(
        "erasure",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "person", name=op.f("pk_erasure")),
    )
    rows = [
        {"tenant": tenant, "person": pseudonym(tenant, user), "until": until}
        for tenant, user, until in erased
    ]
    op.bulk_insert(made, rows)
    op.create_table(
        "erasure_receipt",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("removed", sa.JSON(), nullable=False),
        sa.Column("since", sa.JSON(), nullable=False),
        sa.Column("held", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure_receipt")),
    )
    op.create_index(op.f("ix_erasure_receipt_state"), "erasure_receipt", ["state"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_erasure_receipt_state"), table_name="erasure_receipt")
    op.drop_table("erasure_receipt")
    op.drop_table("erasure")
    op.create_table(
        "erasure",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user", name=op.f("pk_erasure")),
    )
