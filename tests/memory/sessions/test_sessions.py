"""The log: steps once and in order, tool calls with their results, nothing lost, nothing mixed."""

import asyncio

import pytest
from burnish.memory import BadCursor, BadStep, IdConflict, MemoryStore, SessionNotFound, TooLarge
from burnish.memory.sessions.steps import MAX_CONTENT


def said(text: str, **more) -> dict:
    return {"role": "user", "content": text, **more}


def called(*ids: str) -> dict:
    calls = [
        {"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call: str, text: str = "done") -> dict:
    return {"role": "tool", "content": text, "tool_call_id": call}


async def test_steps_come_back_in_order_with_cursors(store: MemoryStore, tenant: str):
    placed = await store.append(tenant, "s", [said("one"), said("two", id="mine")])
    await store.append(tenant, "s", [said("three")])
    log = await store.read(tenant, "s")
    assert [step["content"] for step in log] == ["one", "two", "three"]
    assert [step["cursor"] for step in log[:2]] == [p["cursor"] for p in placed]
    assert placed[1]["id"] == "mine"
    assert await store.read(tenant, "s", after=placed[1]["cursor"]) == log[2:]


async def test_sending_a_step_again_changes_nothing(store: MemoryStore, tenant: str):
    first = await store.append(tenant, "s", [said("one", id="a"), said("two", id="b")])
    again = await store.append(tenant, "s", [said("two", id="b"), said("three", id="c")])
    assert again[0] == first[1]
    assert (await store.stats(tenant, "s"))["steps"] == 3


async def test_an_id_with_other_content_is_refused_and_nothing_of_the_batch_stays(
    store: MemoryStore, tenant: str
):
    await store.append(tenant, "s", [said("one", id="a")])
    with pytest.raises(IdConflict, match="'a'"):
        await store.append(tenant, "s", [said("new", id="b"), said("other", id="a")])
    assert len(await store.read(tenant, "s")) == 1


async def test_many_writers_lose_and_repeat_nothing(store: MemoryStore, tenant: str):
    async def write(writer: int) -> None:
        for n in range(10):
            event = said(f"{writer}/{n}", id=f"{writer}-{n}")
            await asyncio.gather(*(store.append(tenant, "s", [event]) for _ in range(2)))

    await asyncio.gather(*(write(writer) for writer in range(10)))
    log = [step["content"] for step in await store.read(tenant, "s", limit=1000)]
    assert len(log) == len(set(log)) == 100
    for writer in range(10):
        own = [text for text in log if text.startswith(f"{writer}/")]
        assert own == [f"{writer}/{n}" for n in range(10)]


async def test_a_result_needs_its_call_and_answers_it_once(store: MemoryStore, tenant: str):
    with pytest.raises(BadStep, match="c1"):
        await store.append(tenant, "s", [result("c1")])
    await store.append(tenant, "s", [called("c1", "c2"), result("c2")])
    assert (await store.stats(tenant, "s"))["open_tool_calls"] == 1
    await store.append(tenant, "s", [result("c1")])
    with pytest.raises(BadStep, match="no open tool call"):
        await store.append(tenant, "s", [result("c1", "twice")])


async def test_tenants_and_odd_names_never_meet(store: MemoryStore):
    places = [("a:b", "c"), ("a", "b:c"), ("a}", "{b"), ("a", "b%3Ac"), ("ä", "c d")]
    for n, (tenant, session) in enumerate(places):
        await store.append(tenant, session, [said(f"text{n}")])
    for n, (tenant, session) in enumerate(places):
        assert [s["content"] for s in await store.read(tenant, session)] == [f"text{n}"]
        assert not await store.search(tenant, session, f"text{(n + 1) % len(places)}")


async def test_search_finds_the_best_step_and_ties_go_to_the_newest(
    store: MemoryStore, tenant: str
):
    facts = ["the harbour code is 4711", "lunch was soup", "harbour again", "lunch was soup"]
    await store.append(tenant, "s", [said(text) for text in facts])
    found = await store.search(tenant, "s", "what is the harbour code?", limit=2)
    assert [step["content"] for step in found] == [facts[0], facts[2]]
    assert [s["cursor"] for s in await store.search(tenant, "s", "soup")] == ["4", "2"]
    assert await store.search(tenant, "s", "nothing like it") == []
    assert await store.search(tenant, "s", "?!") == []


async def test_identifiers_are_found_by_their_parts(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [said("set max_batch_size to 32"), said("retryPolicy is off")])
    assert (await store.search(tenant, "s", "batch"))[0]["cursor"] == "1"
    assert (await store.search(tenant, "s", "policy"))[0]["cursor"] == "2"


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"role": "wizard", "content": "x"}, "role"),
        ({"role": "user", "content": ""}, "empty"),
        ({"role": "user", "content": "x", "colour": 1}, "colour"),
        ({"role": "user", "content": "\ud800"}, "Unicode"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "text"),
        ({"role": "user", "content": "x", "kind": "two words"}, "kind"),
        ({"role": "user", "content": "x", "id": ""}, "id"),
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "user", "content": "x", "tool_calls": [{"id": "a"}]}, "assistant"),
        ({"role": "assistant", "tool_calls": [{"type": "function"}]}, "id"),
    ],
)
async def test_a_bad_step_is_refused_with_its_reason(
    store: MemoryStore, tenant: str, event: dict, why: str
):
    with pytest.raises(BadStep, match=why):
        await store.append(tenant, "s", [event])


async def test_too_large_a_step_is_refused(store: MemoryStore, tenant: str):
    with pytest.raises(TooLarge, match="split"):
        await store.append(tenant, "s", [said("x" * (MAX_CONTENT + 1))])


async def test_unknown_sessions_and_cursors_are_named(store: MemoryStore, tenant: str):
    for ask in (store.stats(tenant, "s"), store.read(tenant, "s"), store.search(tenant, "s", "x")):
        with pytest.raises(SessionNotFound, match="'s'"):
            await ask
    await store.append(tenant, "s", [said("one")])
    with pytest.raises(BadCursor):
        await store.read(tenant, "s", after="-1 OR 1")
    with pytest.raises(BadCursor):
        await store.changes.pin(tenant, "s", "99")
