"""Leaves what alarms say where serving reads it: as JSON in Redis, one key for each policy."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import redis
from burnish.feedback.contract import ALARMS_PREFIX, QUARANTINE_PREFIX
from burnish.learner.alarms import history
from burnish.learner.report.data import ReportData
from burnish.learner.tables import AlarmReadingRow
from sqlalchemy.orm import Session

CLOSED = 20  # of the alarms that are over, and are told
FIELDS = (
    "version", "name", "state", "says", "value", "low", "high", "reference", "allowed", "unit", "count", "at",
)  # fmt: skip


def publish(session: Session, client: redis.Redis, policy: str) -> None:
    """What is open, what was, and the last reading of each measure of each version."""
    now = time.time()
    found = history.alarms(session, policy)
    told = {
        "policy": policy,
        "at": now,
        "open": [alarm.told(now) for alarm in found if alarm.closed_at is None],
        "closed": [alarm.told(now) for alarm in found if alarm.closed_at is not None][:CLOSED],
        "readings": latest(history.readings(session, policy)),
    }
    client.set(ALARMS_PREFIX + policy, json.dumps(told))


def publish_quarantine(client: redis.Redis, data: ReportData) -> None:
    """Whose votes count nowhere, by pseudonym."""
    told = {"policy": data.policy, "at": data.at, "held": [asdict(one) for one in data.held]}
    client.set(QUARANTINE_PREFIX + data.policy, json.dumps(told))


def latest(rows: list[AlarmReadingRow]) -> list[dict[str, Any]]:
    """Of readings, the newest first, those of the last version of each name."""
    found: dict[str, AlarmReadingRow] = {}
    for row in rows:
        found.setdefault(row.name, row)
    return [{field: getattr(row, field) for field in FIELDS} for row in found.values()]
