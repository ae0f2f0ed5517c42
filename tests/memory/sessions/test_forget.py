"""Erasure: afterwards the words are nowhere in Redis, and a retry does not bring them back."""

import pytest
import redis
from burnish.memory import Forgotten, MemoryStore, SessionNotFound

from tests.memory.sessions.test_sessions import called, result, said

SECRET = "swordfish"


def everything(client: redis.Redis, tenant: str) -> bytes:
    """Every key of the tenant and its value, as the server would write them to disk."""
    client.config_set("rdbcompression", "no")
    keys = list(client.scan_iter(match=f"*{tenant}*"))
    return b"".join(key + (client.dump(key) or b"") for key in keys)  # type: ignore[operator]


@pytest.fixture
def raw(redis_url: str):
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


async def test_a_session_is_gone_and_stays_gone(store: MemoryStore, tenant: str, raw):
    await store.append(tenant, "s", [said(f"my word is {SECRET}", id="a"), said("more")])
    assert SECRET.encode() in everything(raw, tenant)
    assert await store.forget(tenant, "s") == 2
    assert SECRET.encode() not in everything(raw, tenant)
    assert await store.forget(tenant, "s") == 0
    for ask in (
        store.append(tenant, "s", [said(SECRET, id="a")]),
        store.context(tenant, "s", 100),
        store.stats(tenant, "s"),
    ):
        with pytest.raises(Forgotten, match="another id"):
            await ask
    with pytest.raises(SessionNotFound):
        await store.forget(tenant, "never")


async def test_single_steps_leave_nothing_behind(store: MemoryStore, tenant: str, raw):
    await store.append(tenant, "s", [said("before"), said(SECRET, id="a"), said("after")])
    assert await store.forget(tenant, "s", ["2"]) == 1
    assert SECRET.encode() not in everything(raw, tenant)
    assert [step["cursor"] for step in await store.read(tenant, "s")] == ["1", "3"]
    assert await store.search(tenant, "s", SECRET) == []
    with pytest.raises(Forgotten):
        await store.append(tenant, "s", [said(SECRET, id="a")])
    (placed,) = await store.append(tenant, "s", [said("next")])
    assert placed["cursor"] == "4"
    stats = await store.stats(tenant, "s")
    assert (stats["steps"], stats["forgotten"]) == (3, 1)
    assert stats["tokens"] == sum(s["tokens"] for s in await store.read(tenant, "s"))


async def test_a_call_goes_with_its_results(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [called("a", "b"), said("between"), result("a"), said("end")])
    assert await store.forget(tenant, "s", ["3"]) == 2
    assert [step["content"] for step in await store.read(tenant, "s")] == ["between", "end"]
    assert (await store.stats(tenant, "s"))["open_tool_calls"] == 0


async def test_a_user_is_gone_from_sessions_and_records(store: MemoryStore, tenant: str, raw):
    await store.append(tenant, "s1", [said(SECRET)], user="ana")
    await store.append(tenant, "s2", [said("fine")], user="ben")
    await store.records.put(tenant, {"text": SECRET, "user": "ana"})
    await store.records.put(tenant, {"text": "fine", "user": "ben"})
    gone = await store.forget_user(tenant, "ana")
    assert gone == {"sessions": 1, "steps": 1, "records": 1, "files": 0}
    assert SECRET.encode() not in everything(raw, tenant)
    assert (await store.stats(tenant, "s2"))["steps"] == 1
    assert len(await store.records.list(tenant)) == 1
    assert await store.forget_user(tenant, "ana") == {
        "sessions": 0,
        "steps": 0,
        "records": 0,
        "files": 0,
    }
