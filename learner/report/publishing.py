"""Leaves the report where serving reads it: as JSON in Redis, one key for each policy.

After an update's tick, so it is bounded in time and left alone while nothing is new. Left out: history;
the next report replaces the last.
"""

from __future__ import annotations

import time

import redis
from burnish.feedback.contract import REPORT_PREFIX
from burnish.learner.database import Database
from burnish.learner.report import reading
from burnish.learner.report.data import TICK
from burnish.learner.report.figures import Report
from burnish.learner.report.make import make
from burnish.learner.settings import LearnerSettings
from pydantic import ValidationError
from sqlalchemy.orm import Session


def publish_report(
    database: Database,
    client: redis.Redis,
    settings: LearnerSettings,
    policy: str,
    *,
    refit: bool = True,
) -> Report:
    """Make the policy's report and put it into Redis. Where nothing is new, only what the last tick did
    is told anew.

    Without `refit` no reward model is fitted, and what the last report's fits found stands.
    """
    earlier = last_report(client, policy)
    with database.read() as session:
        if earlier is not None and _nothing_new(session, earlier, refit):
            told = {"last_update": reading.last_update(session, policy)}
            return _put(client, earlier.model_copy(update=told))
        data = reading.read(
            session, policy, at=time.time(), limit=settings.history, trust=settings.trust_of(policy)
        )
    bounds = TICK if refit else None
    return _put(client, make(data, bounds=bounds, earlier=earlier))


def last_report(client: redis.Redis, policy: str) -> Report | None:
    """None where there is none, or one of another release that cannot be read."""
    found = client.get(REPORT_PREFIX + policy)
    if found is None:
        return None
    try:
        return Report.model_validate_json(found)  # type: ignore[arg-type]
    except ValidationError:
        return None


def _nothing_new(session: Session, earlier: Report, refit: bool) -> bool:
    fitted = earlier.fitted_at == earlier.at
    return (fitted or not refit) and earlier.state == reading.state_of(session, earlier.policy)


def _put(client: redis.Redis, report: Report) -> Report:
    client.set(REPORT_PREFIX + report.policy, report.model_dump_json())
    return report
