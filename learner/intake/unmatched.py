"""Judgements that have not met their answer: accepted, stored, and so far without effect.

Most wait a moment, until the answer has come by its own way. Those that wait longer may do so for
ever: an answer that a crash cut off is never recorded, and an interaction with one answer has no
choice 5. They are told by name and with the reason, in Redis, where serving and `burnish status`
read them. The table is, like the experience, a pure function of what has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis
from burnish.feedback.contract import UNMATCHED_KEY
from burnish.learner.intake.joining import slices
from burnish.learner.tables import (
    CompletionRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
    UnmatchedRow,
)
from sqlalchemy import and_, delete, exists, or_, select, tuple_
from sqlalchemy.orm import Session

Key = tuple[str, str]  # tenant and id of a judgement

SHOWN = 1000

_ANSWERED = exists().where(
    InteractionRow.id == JudgementRow.interaction_id,
    InteractionRow.tenant == JudgementRow.tenant,
    CompletionRow.interaction_id == InteractionRow.id,
    CompletionRow.choice == JudgementRow.choice,
)
_IN_SESSION = exists().where(
    InteractionRow.tenant == JudgementRow.tenant,
    InteractionRow.session_id == JudgementRow.session_id,
)
_TAKEN_BACK = exists().where(
    RetractionRow.tenant == JudgementRow.tenant,
    RetractionRow.feedback_id == JudgementRow.id,
    RetractionRow.time >= JudgementRow.time,
)
_MATCHED = or_(
    and_(JudgementRow.interaction_id.is_not(None), _ANSWERED),
    and_(JudgementRow.session_id.is_not(None), _IN_SESSION),
    _TAKEN_BACK,
)


def waiting_for(session: Session, interactions: Iterable[str], sessions: Iterable[Key]) -> set[Key]:
    """The listed judgements of these interactions and of these (tenant, session) pairs."""
    found: set[Key] = set()
    query = select(UnmatchedRow.tenant, UnmatchedRow.id).join(
        JudgementRow,
        (JudgementRow.tenant == UnmatchedRow.tenant) & (JudgementRow.id == UnmatchedRow.id),
    )
    of_session = tuple_(JudgementRow.tenant, JudgementRow.session_id)
    for ids in slices(sorted(set(interactions))):
        rows = session.execute(query.where(JudgementRow.interaction_id.in_(ids)))
        found.update((tenant, id) for tenant, id in rows)
    for keys in slices(sorted(set(sessions))):
        rows = session.execute(query.where(of_session.in_(keys)))
        found.update((tenant, id) for tenant, id in rows)
    return found


def list_unmatched(session: Session, keys: Iterable[Key]) -> None:
    """Bring the list up to date for these judgements."""
    column = tuple_(UnmatchedRow.tenant, UnmatchedRow.id)
    judged = tuple_(JudgementRow.tenant, JudgementRow.id)
    for part in slices(sorted(set(keys))):
        session.execute(delete(UnmatchedRow).where(column.in_(part)))
        query = select(JudgementRow).where(judged.in_(part), ~_MATCHED)
        session.add_all(
            UnmatchedRow(tenant=row.tenant, id=row.id, since=row.time)
            for row in session.scalars(query)
        )
        session.flush()


def reasons(session: Session, before: float, limit: int = SHOWN) -> dict[Key, str]:
    """Why judgements given before that time count nothing, the latest first."""
    query = (
        select(JudgementRow, InteractionRow.id)
        .join(
            UnmatchedRow,
            (JudgementRow.tenant == UnmatchedRow.tenant) & (JudgementRow.id == UnmatchedRow.id),
        )
        .outerjoin(
            InteractionRow,
            (InteractionRow.id == JudgementRow.interaction_id)
            & (InteractionRow.tenant == JudgementRow.tenant),
        )
        .where(UnmatchedRow.since < before)
        .order_by(UnmatchedRow.since.desc())
        .limit(limit)
    )
    return {
        (row.tenant, row.id): _reason(row, interaction is not None)
        for row, interaction in session.execute(query)
    }


def tell(session: Session, client: redis.Redis, before: float) -> int:
    """Put the reasons where serving reads them; returns how many there are."""
    found: dict[Any, Any] = {
        f"{tenant}/{id}": why for (tenant, id), why in reasons(session, before).items()
    }
    if found or client.exists(UNMATCHED_KEY):
        with client.pipeline() as pipe:
            pipe.delete(UNMATCHED_KEY)
            if found:
                pipe.hset(UNMATCHED_KEY, mapping=found)
            pipe.execute()
    return len(found)


def _reason(row: JudgementRow, answered: bool) -> str:
    if row.session_id is not None:
        return f"no answer of session '{row.session_id}' was recorded"
    if answered:
        return f"interaction '{row.interaction_id}' has no answer with choice {row.choice}"
    return f"the answer '{row.interaction_id}' was not recorded; it may have been cut off"
