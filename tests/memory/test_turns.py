"""Turns: gone on from by any number of others, until they expire or are erased."""

from __future__ import annotations

from typing import Any

import pytest
from burnish.memory import MemoryStore, Turn, TurnNotFound


def turn(name: str, before: Turn | None = None, session: str = "s") -> Turn:
    said: list[dict[str, Any]] = [{"type": "message", "content": name}]
    return Turn(
        name, said, said, {"id": name}, session, steps=2, before=before.chain if before else ()
    )


async def test_a_conversation_is_a_turn_and_all_before_it(store: MemoryStore, tenant: str) -> None:
    first = turn("a")
    second = turn("b", first)
    left, right = turn("left", second), turn("right", second)
    for each in (first, second, left, right):
        await store.turns.keep(tenant, each, None)
    assert await store.turns.conversation(tenant, "left") == [first, second, left]
    assert await store.turns.conversation(tenant, "right") == [first, second, right]
    assert await store.turns.get(tenant, "b") == second


async def test_a_turn_that_is_gone_ends_what_went_on_from_it(
    store: MemoryStore, tenant: str
) -> None:
    first = turn("a")
    for each in (first, turn("b", first)):
        await store.turns.keep(tenant, each, None)
    await store.turns.delete(tenant, "a")
    with pytest.raises(TurnNotFound, match="'a'"):
        await store.turns.conversation(tenant, "b")
    assert (await store.turns.get(tenant, "b")).id == "b"
    with pytest.raises(TurnNotFound):
        await store.turns.delete(tenant, "a")


async def test_other_tenants_have_none_of_it(store: MemoryStore, tenant: str) -> None:
    await store.turns.keep(tenant, turn("a"), "ada")
    with pytest.raises(TurnNotFound):
        await store.turns.get(f"{tenant}-2", "a")
    assert await store.turns.forget(f"{tenant}-2", user="ada") == 0
    assert (await store.turns.get(tenant, "a")).id == "a"


async def test_a_turn_is_forgotten_with_its_session_its_steps_or_its_user(
    store: MemoryStore, tenant: str
) -> None:
    for session in ("whole", "steps"):
        step = [{"role": "user", "content": "x"}]
        (appended,) = await store.append(tenant, session, step)
        await store.turns.keep(tenant, turn(session, session=session), None)
    await store.turns.keep(tenant, turn("hers", session="t"), "ada")
    await store.turns.keep(tenant, turn("his", session="t"), "bob")
    await store.forget(tenant, "whole")
    await store.forget(tenant, "steps", [appended["cursor"]])
    await store.forget_user(tenant, "ada")
    for gone in ("whole", "steps", "hers"):
        with pytest.raises(TurnNotFound):
            await store.turns.get(tenant, gone)
    assert (await store.turns.get(tenant, "his")).id == "his"


async def test_a_turn_expires(store: MemoryStore, tenant: str) -> None:
    await store.turns.keep(tenant, turn("a"), "ada")
    keys = [key async for key in store._redis.scan_iter(match=f"*{tenant}*turn*")]
    assert len(keys) == 3  # itself, and those of its session and its user
    for key in keys:
        assert 29 * 86_400 < await store._redis.ttl(key) <= 30 * 86_400
