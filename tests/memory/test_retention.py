"""Retention: what nobody has touched since a time goes, of every tenant, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from burnish.memory import Forgotten, MemoryStore, connect
from burnish.memory.records.record import RecordFilter
from burnish.memory.retention import forget_records, forget_sessions
from redis.asyncio import Redis

from tests.memory.conftest import Clock, count_words


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
def timed(redis: Redis, clock: Clock) -> MemoryStore:
    return MemoryStore(redis, count_words, clock=clock)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_sessions_that_nobody_has_gone_on_with_go(
    timed: MemoryStore, redis: Redis, tenant: str, clock: Clock
):
    other = f"{tenant}:with/odd {{name}}"
    await timed.append(tenant, "old", said("once"))
    await timed.append(other, "old too", said("once"))
    await timed.append(tenant, "gone on with", said("once"))
    clock.now += 10
    await timed.append(tenant, "gone on with", said("again"))
    await timed.append(tenant, "new", said("now"))
    assert await forget_sessions(timed, redis, clock.now) == 2
    assert await timed.steps(tenant, "gone on with") == 2
    assert await timed.steps(tenant, "new") == 1
    for owner, session in ((tenant, "old"), (other, "old too")):
        with pytest.raises(Forgotten):
            await timed.stats(owner, session)
    assert await forget_sessions(timed, redis, clock.now) == 0


async def test_records_that_nobody_has_written_anew_go_and_pinned_ones_stay(
    timed: MemoryStore, redis: Redis, tenant: str, clock: Clock
):
    for id in ("old", "rewritten", "pinned"):
        await timed.records.put(tenant, {"id": id, "text": f"{id} says so"})
    await timed.records.update(tenant, "pinned", {"pinned": True})
    clock.now += 10
    await timed.records.update(tenant, "rewritten", {"text": "another"})
    await timed.records.put(tenant, {"id": "new", "text": "new says so"})
    assert await forget_records(timed, redis, clock.now) == 1
    left = await timed.records.list(tenant, RecordFilter())
    assert {row["id"] for row in left} == {"rewritten", "pinned", "new"}
