"""All that the experience database holds on one end user, one object at a time, each with its `type`.

What `burnish erase` would remove from it. Left out: what is derived (experience, credits, features), and memory's
stores, which export themselves (memory/export.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from burnish.learner.database import Database
from burnish.learner.tables import ArmRow, CompletionRow, InteractionRow, JudgementRow
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

BATCH = 500

Row = dict[str, Any]


def held_on(database: Database, tenant: str, user: str) -> Iterator[Row]:
    """Their interactions with the answers, the judgements they gave, and those that others gave on theirs."""
    asked = select(InteractionRow).where(
        InteractionRow.tenant == tenant, InteractionRow.user == user
    )
    theirs = asked.with_only_columns(InteractionRow.id)
    said = select(JudgementRow).where(
        JudgementRow.tenant == tenant,
        or_(JudgementRow.user == user, JudgementRow.interaction_id.in_(theirs)),
    )
    with database.read() as session:
        for rows in session.scalars(asked.order_by(InteractionRow.time)).partitions(BATCH):
            for row in rows:
                hanging = {"completions": _answers(session, row), "canary": _canary(session, row)}
                yield {"type": "interaction", **_fields(row), **hanging}
        for rows in session.scalars(said.order_by(JudgementRow.time)).partitions(BATCH):
            for row in rows:
                yield {"type": "judgement", **_fields(row)}


def _answers(session: Session, row: InteractionRow) -> list[Row]:
    query = select(CompletionRow).where(CompletionRow.interaction_id == row.id)
    return [_fields(answer) for answer in session.scalars(query.order_by(CompletionRow.choice))]


def _canary(session: Session, row: InteractionRow) -> Row | None:
    """Which arm of a canary it was; None where there was none."""
    arm = session.get(ArmRow, row.id)
    return _fields(arm) if arm is not None else None


def _fields(row: Any) -> Row:
    return {
        attribute.columns[0].name: getattr(row, attribute.key)
        for attribute in row.__mapper__.column_attrs
    }
