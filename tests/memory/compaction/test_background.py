"""Background compaction: at three quarters to two fifths, once, one at a time, and never in a loop."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from burnish.memory import MemoryStore, connect
from burnish.memory.compaction.background import BACKOFF, TARGET, TRIGGER, CompactionPass
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policies.recent import RecentPolicy

from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import said

BUDGET = 1000


class Slow(RecentPolicy):
    """Waits until it is released."""

    name = "slow"

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def decide(self, task):
        self.asked.set()
        await self.go.wait()
        return await super().decide(task)


def lines(tokens: int, **more) -> list[dict]:
    """Steps of 10 tokens each."""
    return [said(f"{uuid.uuid4().hex} b c d", **more) for _ in range(tokens // 10)]


async def test_it_compacts_past_the_trigger_and_then_waits_for_growth(
    store: MemoryStore, tenant: str
):
    await store.append(tenant, "s", lines(int(BUDGET * TRIGGER)))
    assert (await store.background.compact_if_due(tenant, "s", BUDGET)).outcome == "small"
    await store.append(tenant, "s", lines(20))
    assert (await store.background.compact_if_due(tenant, "s", BUDGET)) == CompactionPass(
        "compacted", "p1"
    )
    stats = await store.stats(tenant, "s")
    assert stats["tokens_view"] <= TARGET * BUDGET
    assert (await store.background.compact_if_due(tenant, "s", BUDGET)).outcome == "small"
    plans = await store.compaction.plans(tenant, "s")
    assert [plan["trigger"] for plan in plans] == ["background"]


async def test_passes_that_gain_too_little_get_rarer(store: MemoryStore, tenant: str):
    """All is pinned: there is nothing to gain, however often it is tried."""
    await store.append(tenant, "s", lines(900, pinned=True))
    outcomes = []
    for _ in range(60):
        outcomes.append((await store.background.compact_if_due(tenant, "s", BUDGET)).outcome)
        await store.append(tenant, "s", lines(20, pinned=True))
    tried = [n for n, outcome in enumerate(outcomes) if outcome == "no gain"]
    assert set(outcomes) == {"no gain", "resting"}
    assert tried == [0, 5, 15, 35]  # 0.1, 0.2, 0.4, ... of the budget later
    assert BACKOFF * BUDGET == 100
    assert (await store.stats(tenant, "s"))["compactions"] == 0


@pytest.fixture
async def slow(redis_url: str) -> AsyncIterator[tuple[MemoryStore, MemoryStore, Slow]]:
    """Two processes' stores with one policy that takes its time."""
    policy = Slow()
    clients = [connect(redis_url) for _ in range(2)]
    first, second = (
        MemoryStore(c, count_words, policies=CompactionPolicies([policy]), background_policy="slow")
        for c in clients
    )
    yield first, second, policy
    for store, client in zip((first, second), clients, strict=True):
        await store.background.stop()
        await client.aclose()


async def test_one_pass_at_a_time_whoever_asks(
    slow: tuple[MemoryStore, MemoryStore, Slow], tenant: str
):
    first, second, policy = slow
    await first.append(tenant, "s", lines(900))
    outcomes: list[CompactionPass] = []
    first.background.on_pass = outcomes.append
    for _ in range(10):
        first.background.schedule(tenant, "s", BUDGET)
    await policy.asked.wait()
    assert (await second.background.compact_if_due(tenant, "s", BUDGET)).outcome == "taken"
    await second.append(tenant, "s", [said("while it runs", id="late")])
    policy.go.set()
    await first.background.settled()
    assert outcomes == [CompactionPass("compacted", "p1")]
    view = await second.context(tenant, "s", BUDGET)
    assert view["messages"][-1]["content"] == "while it runs"


async def test_a_pass_that_is_broken_off_leaves_the_session_as_it_was(
    slow: tuple[MemoryStore, MemoryStore, Slow], tenant: str
):
    first, second, policy = slow
    await first.append(tenant, "s", lines(900))
    first.background.schedule(tenant, "s", BUDGET)
    await policy.asked.wait()
    await first.background.stop()
    assert (await first.stats(tenant, "s"))["plan"] is None
    policy.go.set()
    assert (await second.background.compact_if_due(tenant, "s", BUDGET)).outcome == "compacted"


async def test_a_policy_that_takes_too_long_is_not_waited_for(redis_url: str, tenant: str):
    client = connect(redis_url)
    store = MemoryStore(
        client,
        count_words,
        policies=CompactionPolicies([Slow()]),
        background_policy="slow",
        policy_seconds=0.05,
    )
    await store.append(tenant, "s", lines(900))
    assert (await store.background.compact_if_due(tenant, "s", BUDGET)).outcome == "compacted"
    (plan,) = await store.compaction.plans(tenant, "s")
    assert plan["policy"] == "bm25"
    assert "longer than 0.05 s" in plan["fell_back"]
    await client.aclose()


async def test_a_session_that_is_gone_is_logged_and_raises_nothing(
    store: MemoryStore, tenant: str, caplog: pytest.LogCaptureFixture
):
    store.background.schedule(tenant, "never", BUDGET)
    await store.background.settled()
    assert "no session 'never'" in caplog.text
