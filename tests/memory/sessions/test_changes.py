"""Pins, deletions and undo, and the session as it was at an earlier version."""

from collections.abc import AsyncIterator

import pytest
import redis
from burnish.memory import BadCursor, BadStep, Forgotten, MemoryStore, Stale, UnknownPlan, connect

from tests.memory.compaction.test_compaction import cursors
from tests.memory.conftest import Clock, count_words
from tests.memory.sessions.test_forget import SECRET, everything
from tests.memory.sessions.test_sessions import called, result, said
from tests.memory.views.test_default_view import long_session


@pytest.fixture
async def timed(redis_url: str, clock: Clock) -> AsyncIterator[MemoryStore]:
    """On a database of its own, since `sweep` looks at every session there is."""
    client = connect(redis_url.rsplit("/", 1)[0] + "/7")
    await client.flushdb()
    yield MemoryStore(client, count_words, clock=clock)
    await client.aclose()


async def test_a_deletion_hides_at_once_and_can_be_undone(timed: MemoryStore, tenant: str):
    await timed.append(
        tenant, "s", [said("before"), called("c"), result("c", SECRET), said("after")]
    )
    seen = await timed.context(tenant, "s", 1000)
    gone = await timed.changes.delete(tenant, "s", ["3"])
    assert gone["steps"] == ["2", "3"]
    assert cursors(await timed.context(tenant, "s", 1000)) == ["1", "4"]
    assert await timed.search(tenant, "s", SECRET) == []
    assert [s["cursor"] for s in await timed.read(tenant, "s")] == ["1", "4"]
    with pytest.raises(BadCursor):
        await timed.compaction.expand(tenant, "s", cursors=["3"])
    with pytest.raises(BadCursor, match="restore"):
        await timed.changes.pin(tenant, "s", "3")
    undone = await timed.changes.undo(tenant, "s")
    assert undone["undone"]["kind"] == "delete"
    assert (await timed.context(tenant, "s", 1000))["messages"] == seen["messages"]


async def test_after_its_grace_a_deletion_is_an_erasure(
    timed: MemoryStore, tenant: str, clock: Clock, redis_url: str
):
    await timed.append(tenant, "s", [said("before"), said(SECRET), said("after")])
    await timed.changes.delete(tenant, "s", ["2"], grace=60)
    await timed.changes.delete(tenant, "s", ["3"], grace=90)
    clock.now += 59
    assert await timed.changes.sweep() == 0
    clock.now += 2
    assert await timed.changes.sweep() == 1
    with redis.Redis.from_url(redis_url.rsplit("/", 1)[0] + "/7") as raw:
        assert SECRET.encode() not in everything(raw, tenant)
    with pytest.raises(Forgotten, match="final"):
        await timed.changes.undo(tenant, "s", version=2)
    assert (await timed.changes.undo(tenant, "s", version=3))["undone"]["cursors"] == ["3"]
    clock.now += 100
    assert await timed.changes.sweep() == 0
    assert [s["content"] for s in await timed.read(tenant, "s")] == ["before", "after"]


async def test_a_restored_step_is_not_swept_by_an_earlier_deletion(
    timed: MemoryStore, tenant: str, clock: Clock
):
    await timed.append(tenant, "s", [said("one")])
    await timed.changes.delete(tenant, "s", ["1"], grace=10)
    await timed.changes.undo(tenant, "s")
    clock.now += 20
    assert await timed.changes.sweep() == 0
    assert len(await timed.read(tenant, "s")) == 1


@pytest.mark.parametrize("grace", [0, -1, 10**9])
async def test_a_grace_out_of_range_says_what_else_to_do(
    store: MemoryStore, tenant: str, grace: float
):
    await store.append(tenant, "s", [said("one")])
    with pytest.raises(BadStep, match="forget"):
        await store.changes.delete(tenant, "s", ["1"], grace=grace)


async def test_undo_walks_back_one_change_at_a_time(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    await store.changes.pin(tenant, "s", "50")
    await store.compaction.compact(tenant, "s", "recent", 200)
    assert (await store.changes.undo(tenant, "s"))["undone"]["kind"] == "compact"
    assert (await store.stats(tenant, "s"))["plan"] is None
    assert (await store.changes.undo(tenant, "s"))["undone"]["kind"] == "pin"
    assert (await store.stats(tenant, "s"))["pinned"] == 1  # the system step
    with pytest.raises(UnknownPlan, match="not undone yet"):
        await store.changes.undo(tenant, "s")
    kinds = [(c["kind"], c.get("undoes")) for c in await store.changes.history(tenant, "s")]
    assert kinds == [("unpin", 3), ("switch", 4), ("compact", None), ("pin", None)]


async def test_an_unpinned_system_step_gets_its_own_pin_back(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    await store.changes.pin(tenant, "s", "1", pinned=False)
    assert "1" not in cursors(await store.context(tenant, "s", 60))
    await store.changes.undo(tenant, "s")
    assert "1" in cursors(await store.context(tenant, "s", 60))


async def test_a_compaction_that_was_replaced_is_not_undone(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    first = await store.compaction.compact(tenant, "s", "recent", 200)
    await store.compaction.compact(tenant, "s", "recent", 100)
    with pytest.raises(Stale):
        await store.changes.undo(tenant, "s", version=first.version)


async def test_every_earlier_moment_can_be_seen_again(store: MemoryStore, tenant: str):
    """Whatever happened since: the log and the view as they were."""
    seen = {}

    async def look() -> None:
        version = (await store.stats(tenant, "s"))["version"]
        seen[version] = (
            await store.read(tenant, "s", limit=1000),
            await store.context(tenant, "s", 150, "launch code"),
        )

    await long_session(store, tenant)
    await look()
    await store.append(tenant, "s", [called("c")])
    await look()
    await store.append(tenant, "s", [result("c"), said("thanks")])
    await look()
    await store.changes.pin(tenant, "s", "30")
    await look()
    await store.compaction.compact(tenant, "s", "recent", 120)
    await look()
    await store.changes.delete(tenant, "s", ["204"])
    await look()
    await store.compaction.compact(tenant, "s", "bm25", 100)
    await look()
    await store.changes.undo(tenant, "s")
    await store.changes.undo(tenant, "s")
    await store.append(tenant, "s", [said("later")])
    await look()
    assert len(seen) == 8
    for version, (log, view) in seen.items():
        assert await store.read(tenant, "s", limit=1000, version=version) == log
        assert await store.context(tenant, "s", 150, "launch code", version=version) == view
    for wrong in (0, 99):
        with pytest.raises(Stale, match="versions 1 to"):
            await store.context(tenant, "s", 150, version=wrong)
