"""Which challengers are to answer in shadow, and what came of it: left in Redis for the canary's next tick.

Another task compares them, since that takes a model and a minute (update/shadow.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import redis
from burnish.feedback.contract import CANARY_SHADOW_PREFIX
from burnish.learner.canary.decision import ShadowResult
from burnish.learner.gate.report import Check
from burnish.learner.tables import CanaryRow
from sqlalchemy import select
from sqlalchemy.orm import Session

KEPT_S = 7 * 24 * 3600


def waiting(session: Session, client: redis.Redis, policy: str) -> CanaryRow | None:
    """The policy's canary, if it waits for its shadow."""
    query = select(CanaryRow).where(
        CanaryRow.policy == policy, CanaryRow.state == "running", CanaryRow.share == 0
    )
    row = session.scalars(query).first()
    return None if row is None or result_of(client, row.id) else row


def result_of(client: redis.Redis, canary_id: str) -> ShadowResult | None:
    found: Any = client.get(CANARY_SHADOW_PREFIX + canary_id)
    return None if found is None else ShadowResult(**json.loads(found))


def tell(client: redis.Redis, canary_id: str, found: Check | str) -> ShadowResult:
    if isinstance(found, str):
        result = ShadowResult(found)
    else:
        lower, upper = found.bounds or (None, None)
        result = ShadowResult(found.says, found.value, lower, upper)
    client.set(CANARY_SHADOW_PREFIX + canary_id, json.dumps(asdict(result)), ex=KEPT_S)
    return result
