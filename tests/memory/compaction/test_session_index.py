"""What is kept between requests gives what the log gives, whatever happens to the session."""

from contextlib import suppress
from random import Random

import pytest
from burnish.memory import MemoryStore, connect
from burnish.memory.compaction.session_index import SessionIndexes
from burnish.memory.errors import StoreError

from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import called, result, said

POLICIES = ("recent", "bm25", "clear_tools", "summary", "rubric", "learned")


@pytest.fixture
async def other(redis_url: str):
    """A store of another process."""
    client = connect(redis_url)
    yield MemoryStore(client, count_words)
    await client.aclose()


async def afresh(redis_url: str, tenant: str, policy: str, query: str) -> object:
    """The view that a process which never saw the session gives."""
    client = connect(redis_url)
    try:
        return await MemoryStore(client, count_words).context(
            tenant, "s", 150, query, policy=policy
        )
    finally:
        await client.aclose()


@pytest.mark.parametrize("policy", ["recent", "bm25", "clear_tools", "rubric"])
async def test_a_kept_index_gives_the_view_of_a_fresh_one(
    store: MemoryStore, other: MemoryStore, redis_url: str, tenant: str, policy: str
):
    rng = Random(3)
    undo = []
    for number in range(40):
        writer = rng.choice((store, other))
        match rng.choice(("say", "say", "call", "late", "delete", "restore", "forget")):
            case "say":
                words = rng.choices(("port", "boat", "river", "rain", "note"), k=8)
                await writer.append(tenant, "s", [said(" ".join(words) + f" {number}")])
            case "call":
                await writer.append(tenant, "s", [called(f"c{number}"), said("wait")])
                undo.append(f"c{number}")
            case "late" if undo:
                await writer.append(tenant, "s", [result(undo.pop(), "done at the port")])
            case "delete" if number > 5:
                with suppress(StoreError):  # erased, or deleted already
                    await writer.changes.delete(tenant, "s", [str(number // 2)])
            case "restore" if number > 5:
                with suppress(StoreError):  # nothing to undo
                    await writer.changes.undo(tenant, "s")
            case "forget" if number > 10:
                with suppress(StoreError):
                    await writer.forget(tenant, "s", [str(number // 3)])
            case _:
                await writer.append(tenant, "s", [said(f"hello {number}")])
        query = rng.choice(("the port", "a note", "rain on the river"))
        kept = await store.context(tenant, "s", 150, query, policy=policy)
        assert kept == await afresh(redis_url, tenant, policy, query)


async def test_an_earlier_version_is_shown_as_it_was(store: MemoryStore, tenant: str):
    for number in range(6):
        await store.append(tenant, "s", [said(f"step {number}")])
        if number == 3:
            before = await store.context(tenant, "s", 500, policy="bm25")
    assert await store.context(tenant, "s", 500, policy="bm25", version=4) == before


async def test_what_is_erased_leaves_this_process_at_once(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [said("the door code is 4711"), said("hello"), said("there")])
    await store.context(tenant, "s", 500, "door code", policy="bm25")
    await store.forget(tenant, "s", ["1"])
    assert "4711" not in repr(vars(store._indexes))
    view = await store.context(tenant, "s", 500, "door code", policy="bm25")
    assert all("4711" not in message["content"] for message in view["messages"])


async def test_the_memory_it_takes_is_bounded(store: MemoryStore, tenant: str):
    store._indexes = SessionIndexes(count_words, most=3000)
    for name in ("a", "b", "c", "d", "e"):
        await store.append(tenant, name, [said("word " * 100), said("word " * 100)])
        await store.context(tenant, name, 1000, policy="recent")
    kept = store._indexes._sessions
    assert 0 < len(kept) < 5
    assert sum(session.index.size for session in kept.values()) <= 3000
