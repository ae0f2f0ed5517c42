"""Facts that outlive a session."""

import pytest
from burnish.memory import BadStep, Forgotten, MemoryStore, RecordNotFound


async def test_put_get_and_replace_by_id(store: MemoryStore, tenant: str):
    old = await store.records.put(tenant, {"id": "city", "text": "lives in Lisbon", "user": "ana"})
    new = await store.records.put(tenant, {"id": "city", "text": "lives in Porto", "user": "ana"})
    assert new["created_at"] == old["created_at"]
    assert (await store.records.get(tenant, "city"))["text"] == "lives in Porto"
    assert await store.records.search(tenant, "Lisbon") == []
    assert [r["id"] for r in await store.records.search(tenant, "where: porto?")] == ["city"]


async def test_a_record_says_where_it_comes_from(store: MemoryStore, tenant: str):
    made = await store.records.put(tenant, {"text": "fact", "session_id": "s", "cursors": ["3"]})
    kept = await store.records.get(tenant, made["id"])
    assert (kept["session_id"], kept["cursors"]) == ("s", ["3"])


async def test_listing_pages_oldest_first_and_by_user(store: MemoryStore, tenant: str):
    for n in range(5):
        user = "ana" if n % 2 else "ben"
        await store.records.put(tenant, {"id": f"r{n}", "text": f"fact {n}", "user": user})
    page = await store.records.list(tenant, limit=2)
    rest = await store.records.list(tenant, after=page[-1]["id"])
    assert [r["id"] for r in [*page, *rest]] == ["r0", "r1", "r2", "r3", "r4"]
    assert [r["id"] for r in await store.records.list(tenant, user="ana")] == ["r1", "r3"]
    found = await store.records.search(tenant, "fact", user="ben")
    assert {r["id"] for r in found} == {"r0", "r2", "r4"}


async def test_deleting_frees_the_id_forgetting_does_not(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {"id": "a", "text": "secret"})
    await store.records.delete(tenant, "a")
    with pytest.raises(RecordNotFound):
        await store.records.get(tenant, "a")
    with pytest.raises(RecordNotFound):
        await store.records.delete(tenant, "a")
    await store.records.put(tenant, {"id": "a", "text": "again"})
    assert await store.records.forget(tenant, "a") == 1
    with pytest.raises(Forgotten):
        await store.records.put(tenant, {"id": "a", "text": "late retry"})
    assert await store.records.search(tenant, "secret again late") == []


async def test_tenants_never_see_each_other(store: MemoryStore, tenant: str):
    await store.records.put(tenant, {"id": "a", "text": "mine"})
    assert await store.records.search("other", "mine") == []
    with pytest.raises(RecordNotFound):
        await store.records.get("other", "a")


@pytest.mark.parametrize(
    "record",
    [{}, {"text": " "}, {"text": 3}, {"text": "x", "tenant": "t"}, {"text": "x", "id": ""}],
)
async def test_a_bad_record_is_refused(store: MemoryStore, tenant: str, record: dict):
    with pytest.raises(BadStep):
        await store.records.put(tenant, record)
