"""Retention: what is older than its kind may be goes, kind by kind, as far as one tick comes.

    BURNISH_RETENTION_DAYS               interactions with what hangs on them, and judgements
    BURNISH_RETENTION_DEADLETTER_DAYS    dead letters
    BURNISH_RETENTION_SESSION_DAYS       sessions of memory that nobody has gone on with
    BURNISH_RETENTION_RECORD_DAYS        records of memory that nobody has written anew, pinned ones excepted

Left out: what keeps to a time by itself: the spool's ledger (BURNISH_LEDGER_DAYS), responses
(BURNISH_RESPONSE_DAYS), Kafka's topics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from burnish.feedback.contract import TOPICS
from burnish.feedback.stream import deadletters
from burnish.feedback.stream.event_stream import EventStream
from burnish.learner.database import Database
from burnish.learner.intake.erasure import expire
from burnish.memory import MemoryStore, connect
from burnish.memory.retention import forget_records, forget_sessions

DAY_S = 86400.0

Forget = Callable[[MemoryStore, Any, float], Awaitable[int]]


def expire_experience(database: Database, days: float, seconds: float) -> str:
    """For so many seconds at most; what is left is the next tick's."""
    began, erased = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        with database.write() as session:
            batch = expire(session, time.time() - days * DAY_S)
        erased += batch
        if not batch:
            break
    return f"erased {erased} interactions and judgements older than {days:g} days"


def expire_letters(stream: EventStream, days: float) -> str:
    before = time.time() - days * DAY_S
    erased = sum(deadletters.forget(stream, topic, before) for topic in TOPICS)
    return f"erased {erased} dead letters older than {days:g} days"


def expire_memory(
    redis_url: str, session_days: float | None, record_days: float | None
) -> list[str]:
    """Raises RedisError."""

    async def forget() -> list[str]:
        redis = connect(redis_url)
        store = MemoryStore(redis, len)  # nothing is counted in tokens here
        kinds: tuple[tuple[str, float | None, Forget], ...] = (
            ("sessions", session_days, forget_sessions),
            ("records", record_days, forget_records),
        )
        did = []
        try:
            for kind, days, forget_kind in kinds:
                if days is not None:
                    erased = await forget_kind(store, redis, time.time() - days * DAY_S)
                    did.append(f"erased {erased} {kind} of memory older than {days:g} days")
        finally:
            await redis.aclose()
        return did

    return asyncio.run(forget())
