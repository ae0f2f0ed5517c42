"""Choosing what to forget, handing over what is kept, and erasing all of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from burnish.memory import BadStep, MemoryStore, connect, export_user
from burnish.memory.records.forgetting import (
    ForgettingPolicy,
    choose,
    forget_by_policy,
    forget_chosen,
)
from burnish.memory.records.record import RecordFilter

from tests.memory.conftest import Clock, count_words

DAY = 86400.0
EVER = RecordFilter(include_superseded=True, include_expired=True)


@pytest.fixture
async def timed(redis_url: str, clock: Clock) -> AsyncIterator[MemoryStore]:
    client = connect(redis_url)
    yield MemoryStore(client, count_words, clock=clock)
    await client.aclose()


async def chosen(
    store: MemoryStore, tenant: str, policy: ForgettingPolicy, **options
) -> dict[str, str]:
    found = await choose(store.records, tenant, policy, **options)
    return {one.record["id"]: one.why for one in found}


async def left(store: MemoryStore, tenant: str) -> set[str]:
    return {row["id"] for row in await store.records.list(tenant, EVER)}


async def test_superseded_values_go_and_the_last_stays(
    timed: MemoryStore, tenant: str, clock: Clock
):
    slot = {"subject": "ana", "predicate": "lives in"}
    for place in ("Lisbon", "Porto", "Braga", "Faro"):
        await timed.records.put(tenant, {**slot, "id": place, "value": place})
        clock.now += DAY
    await timed.records.update(tenant, "Porto", {"pinned": True})
    why = await chosen(timed, tenant, ForgettingPolicy.SUPERSEDED)
    assert why == {
        "Lisbon": "superseded by Porto since 3.0 days",
        "Braga": "superseded by Faro since 1.0 days",
    }
    assert set(await chosen(timed, tenant, ForgettingPolicy.SUPERSEDED, older_than_s=2 * DAY)) == {
        "Lisbon"
    }
    await timed.records.update(tenant, "Porto", {"pinned": False})
    done = await forget_by_policy(timed.records, tenant, ForgettingPolicy.SUPERSEDED, dry_run=False)
    assert done["records"] == 3
    assert await left(timed, tenant) == {"Faro"}


async def test_expired_records_go(timed: MemoryStore, tenant: str, clock: Clock):
    await timed.records.put(tenant, {"id": "old", "text": "code 1", "expires_at": clock.now + 60})
    await timed.records.put(tenant, {"id": "new", "text": "code 2", "expires_at": clock.now + 600})
    clock.now += 120
    assert await chosen(timed, tenant, ForgettingPolicy.EXPIRED) == {"old": "expired 60 s ago"}


async def test_useless_ones_were_never_recalled_or_did_harm(
    timed: MemoryStore, tenant: str, clock: Clock
):
    for name in ("recalled", "never", "harmful", "pinned"):
        pinned = name == "pinned"
        await timed.records.put(tenant, {"id": name, "text": f"note {name}", "pinned": pinned})
    await timed.records.search(tenant, "recalled harmful", limit=2)
    await timed.records.judge(tenant, "harmful", 0.5)
    await timed.records.judge(tenant, "harmful", -1)
    assert set(await chosen(timed, tenant, ForgettingPolicy.USELESS)) == {"harmful"}
    clock.now += 40 * DAY
    why = await chosen(timed, tenant, ForgettingPolicy.USELESS)
    assert why == {
        "never": "never recalled in 40.0 days",
        "harmful": "judged harmful on balance (-0.5)",
    }


async def test_the_least_likely_to_be_needed_go_first(
    timed: MemoryStore, tenant: str, clock: Clock
):
    for name in ("often", "lately", "once", "never"):
        await timed.records.put(tenant, {"id": name, "text": f"{name} asked"})
    await timed.records.search(tenant, "once", limit=1)
    for _ in range(8):
        await timed.records.search(tenant, "often", limit=1)
    clock.now += 28 * DAY  # two half-lives: eight recalls count as two
    await timed.records.search(tenant, "lately", limit=1)
    assert set(await chosen(timed, tenant, ForgettingPolicy.UNLIKELY, keep=3)) == {"never"}
    assert set(await chosen(timed, tenant, ForgettingPolicy.UNLIKELY, keep=2)) == {"never", "once"}
    assert "often" not in await chosen(timed, tenant, ForgettingPolicy.UNLIKELY, keep=1)
    clock.now += 100 * DAY
    assert set(await chosen(timed, tenant, ForgettingPolicy.UNLIKELY, keep=4)) == set()
    with pytest.raises(BadStep, match="keep"):
        await chosen(timed, tenant, ForgettingPolicy.UNLIKELY)


async def test_a_dry_run_lists_what_would_go_and_keeps_it(timed: MemoryStore, tenant: str):
    await timed.records.put(tenant, {"id": "n", "text": "harm"})
    await timed.records.judge(tenant, "n", -1)
    trial = await forget_by_policy(timed.records, tenant, ForgettingPolicy.USELESS, dry_run=True)
    assert (trial["records"], trial["dry_run"]) == (1, True)
    assert trial["listed"][0]["id"] == "n"
    assert await left(timed, tenant) == {"n"}


async def test_what_was_pinned_or_recalled_since_it_was_chosen_stays(
    timed: MemoryStore, tenant: str
):
    for name in ("pinned", "recalled", "left"):
        await timed.records.put(tenant, {"id": name, "text": f"note {name}"})
        await timed.records.judge(tenant, name, -1)
    doomed = await choose(timed.records, tenant, ForgettingPolicy.USELESS)
    await timed.records.update(tenant, "pinned", {"pinned": True})
    await timed.records.search(tenant, "recalled", limit=1)
    assert await forget_chosen(timed.records, tenant, doomed) == 1
    assert await left(timed, tenant) == {"pinned", "recalled"}


async def live(store: MemoryStore, tenant: str, user: str, secret: str, session: str) -> None:
    """All the traces an end user can leave."""
    said = [{"role": "user", "content": f"My name is {secret}. The port is 8080."}]
    await store.append(tenant, session, said, user=user)
    await store.append(tenant, session, [{"role": "user", "content": f"{secret} " * 60}], user=user)
    await store.compaction.compact(tenant, session, "recent", 40)
    await store.extraction.extract(tenant, session, user=user)
    await store.extraction.extract(tenant, session)
    slot = {"user": user, "subject": secret, "predicate": f"of {secret}"}
    for value in (f"{secret}-1", f"{secret}-2"):
        await store.records.put(tenant, {**slot, "id": f"id-{value}", "value": value})
    await store.records.search(tenant, secret, user=user)
    command = {"command": "create", "path": f"/memories/{secret}.md", "file_text": secret}
    assert not (await store.files.run(tenant, user, command)).is_error


async def test_the_export_has_everything_and_nobody_elses(store: MemoryStore, tenant: str):
    await live(store, tenant, "ana", "zanzibar", "s1")
    await live(store, tenant, "ben", "quokka", "s2")
    kept = [one async for one in export_user(store, tenant, "ana")]
    kinds = [one["type"] for one in kept]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "record": 4,
        "file": 1,
        "session": 1,
        "step": 2,
    }
    assert "quokka" not in str(kept)
    assert [one async for one in export_user(store, tenant, "nobody")] == []


async def test_erasure_leaves_no_content_anywhere(
    store: MemoryStore, tenant: str, redis_client: redis.Redis
):
    await live(store, tenant, "zora", "zanzibar", "s1")
    await live(store, tenant, "ben", "quokka", "s2")
    everything = dump(redis_client)
    assert "zanzibar" in everything
    gone = await store.forget_user(tenant, "zora")
    assert gone == {"sessions": 1, "steps": 2, "records": 6, "files": 1}
    after = dump(redis_client)
    assert "zanzibar" not in after
    assert "zora" not in after
    assert len(await store.records.search(tenant, "quokka", user="ben")) == 2
    assert await store.records.search(tenant, "zanzibar") == []
    assert [one async for one in export_user(store, tenant, "zora")] == []


def dump(client: redis.Redis) -> str:
    """Every key and every value in the server, as text."""
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    keys: Any = list(client.scan_iter(count=1000))
    kinds: Any = [client.type(key) for key in keys]
    return str([(key, read[kind](key)) for key, kind in zip(keys, kinds, strict=True)])
