"""Every tick leaves a line: what it did, or why nothing trained.

Update ticks are kept in the database for good; the last lines of all kinds lie in a Redis list,
where serving and `burnish status` read them. Intake ticks in a row are told as one line there, so
that they do not push the others out.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import redis
from burnish.feedback.contract import TICKS_KEY
from burnish.learner.tables import TickRow
from sqlalchemy.orm import Session

KEPT = 200


@dataclass(frozen=True)
class Tick:
    """One line. `did` is a sentence; `why_not` is set when nothing trained or was promoted."""

    kind: Literal["intake", "update", "gate", "promote", "canary"]
    policy: str
    did: str
    why_not: str | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


def record(session: Session, tick: Tick) -> None:
    """Put the line in the database, in the caller's transaction."""
    session.merge(TickRow(**asdict(tick)))


def publish(client: redis.Redis, tick: Tick) -> None:
    """Put the line in the Redis list."""
    with client.pipeline() as pipe:
        pipe.lpush(TICKS_KEY, json.dumps(asdict(tick)))
        pipe.ltrim(TICKS_KEY, 0, KEPT - 1)
        pipe.execute()


def publish_intake(client: redis.Redis, tick: Tick) -> None:
    """Put an intake line in the Redis list, or add it to the one on top."""
    top = client.lindex(TICKS_KEY, 0)
    last = json.loads(top) if top else None  # type: ignore[arg-type]
    if last is None or last["kind"] != "intake":
        publish(client, tick)
        return
    counts = {name: last["counts"].get(name, 0) + value for name, value in tick.counts.items()}
    merged = Tick(
        kind="intake",
        policy=tick.policy,
        did=intake_sentence(counts),
        counts=counts,
        seconds=last["seconds"] + tick.seconds,
        at=tick.at,
        id=last["id"],
    )
    with client.pipeline() as pipe:
        # Another process may have pushed in between; then this line simply stands by itself.
        pipe.lrem(TICKS_KEY, 1, top)  # type: ignore[arg-type]
        pipe.lpush(TICKS_KEY, json.dumps(asdict(merged)))
        pipe.ltrim(TICKS_KEY, 0, KEPT - 1)
        pipe.execute()


def intake_tick(counts: dict[str, int], seconds: float) -> Tick:
    did = intake_sentence(counts)
    return Tick("intake", "*", did, counts=counts, seconds=round(seconds, 3))


def intake_sentence(counts: dict[str, int]) -> str:
    parts = [
        f"{counts.get('interactions', 0)} interactions",
        f"{counts.get('judgements', 0)} judgements",
    ]
    if counts.get("retractions"):
        parts.append(f"{counts['retractions']} retractions")
    line = "took in " + ", ".join(parts)
    if counts.get("repeats"):
        line += f"; {counts['repeats']} were repeats"
    if counts.get("erased"):
        line += f"; {counts['erased']} of erased users were kept out"
    if counts.get("unreadable"):
        line += f"; {counts['unreadable']} unreadable went to the dead letters"
    return line
