"""Telling people that their judgement has met its answer (feedback/fates.py), once for each."""

from __future__ import annotations

import time
from typing import Any

from burnish.feedback import fates
from burnish.feedback.contract import FATES_JOINED_KEY
from burnish.feedback.fates import Fate
from burnish.learner.tables import CreditRow
from sqlalchemy import func, select
from sqlalchemy.orm import Session

AT_ONCE = 5000  # of one tick; without a mark, as many of the latest


def tell_joined(session: Session, client: Any) -> int:
    """Tell of the judgements that have begun to count since the last call; returns how many. Raises
    redis.RedisError."""
    found = client.get(FATES_JOINED_KEY)
    if found is None:
        newest = session.scalar(select(func.max(CreditRow.seq))) or 0
        found = max(0, newest - AT_ONCE)
    query = (
        select(CreditRow.event, CreditRow.policy, CreditRow.seq)
        .where(CreditRow.seq > int(found))
        .order_by(CreditRow.seq)
        .limit(AT_ONCE)
    )
    rows = session.execute(query).all()
    if not rows:
        return 0
    now = time.time()
    fates.tell(client, {row.event: Fate(policy=row.policy, joined_at=now) for row in rows})
    client.set(FATES_JOINED_KEY, rows[-1].seq)
    return len(rows)
