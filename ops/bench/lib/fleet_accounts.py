"""What a fleet acknowledged against what it has: in the experience database, in memory, on each replica."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx2 as httpx
from burnish.learner.database import Database
from burnish.learner.tables import InteractionRow, JudgementRow
from burnish.ops.bench.lib.fleet_parts import Fleet
from burnish.ops.bench.lib.steady_load import Observed
from burnish.ops.bench.outages import lost_and_doubled
from sqlalchemy import func, select

ARRIVAL_S = 240.0
SAMPLE = 200


def stored_votes(fleet: Fleet, votes: Sequence[str]) -> int:
    """How many of these are in the experience database."""
    database = Database(fleet.database_url)
    try:
        with database.read() as session:
            found = select(func.count()).where(JudgementRow.id.in_(votes))
            return session.scalar(found) or 0
    finally:
        database.close()


def accounts(fleet: Fleet, observed: Observed, votes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Lost and doubled, once everything had time to arrive. Answers that a replica counts as unrecorded
    are excused, as it said that they would not be learnt from."""
    unrecorded = sum(_readiness(fleet, r.url).get("unrecorded", 0) for r in fleet.replicas)
    given = [*observed.feedback, *votes]
    database = Database(fleet.database_url)
    deadline = time.monotonic() + ARRIVAL_S
    try:
        while True:
            with database.read() as session:
                interactions = session.scalars(select(InteractionRow.id)).all()
                judged = session.scalars(select(JudgementRow.id)).all()
            rows = {
                "interactions": lost_and_doubled(observed.interactions, interactions, unrecorded),
                "votes": lost_and_doubled(given, judged),
            }
            if not any(row["lost"] for row in rows.values()) or time.monotonic() > deadline:
                break
            time.sleep(2.0)
    finally:
        database.close()
    steps = [step for session in observed.steps for step in _steps(fleet, session)]
    known = [step for ids in observed.steps.values() for step in ids]
    return {**rows, "steps": lost_and_doubled(known, steps)}


def same_on_all(fleet: Fleet, observed: Observed) -> int:
    """Of the latest votes, how many the replicas tell differently."""
    different = 0
    for feedback_id in observed.feedback[-SAMPLE:]:
        told = [_get(fleet, r.url, f"/v1/feedback/{feedback_id}") for r in fleet.replicas]
        shown = [each.json() if each.status_code == 200 else None for each in told]
        different += None in shown or any(each != shown[0] for each in shown)
    return different


def _steps(fleet: Fleet, session: str) -> list[str]:
    """The ids of all steps of a session."""
    found: list[str] = []
    after = ""
    while True:
        params = {"limit": "1000", **({"after": after} if after else {})}
        path = f"/v1/memory/sessions/{session}/events"
        page = _get(fleet, fleet.url, path, params).raise_for_status().json()["events"]
        if not page:
            return found
        found += [step["id"] for step in page]
        after = page[-1]["cursor"]


def _readiness(fleet: Fleet, url: str) -> dict[str, Any]:
    return _get(fleet, url, "/readyz").json()


def _get(fleet: Fleet, url: str, path: str, params: Any = None) -> httpx.Response:
    login = {"Authorization": f"Bearer {fleet.key}"}
    return httpx.get(url + path, params=params, headers=login, timeout=30)
