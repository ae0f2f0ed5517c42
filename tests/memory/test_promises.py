"""What views promise: the budget is used, rules outlive every compaction, providers take every view."""

from random import Random

import pytest
from burnish.memory import BadStep, MemoryStore, export_user
from burnish.memory.sessions.rules import rules
from burnish.ops.bench.lib.memory_promises import RULES, budget_used, rules_lost, scripts_found

from tests.memory.sessions.test_sessions import called, result, said
from tests.memory.views.provider_checks import assert_valid
from tests.memory.views.test_default_view import long_session


async def test_every_view_of_a_long_session_uses_its_budget(store: MemoryStore):
    used = await budget_used(store, 120)
    assert used["least_share"] >= 0.95
    assert used["fewest_messages"] > 0


async def test_no_rule_is_lost_in_a_thousand_compactions(store: MemoryStore):
    assert await rules_lost(store, 1000) == {"compactions": 1000, "rules": len(RULES), "lost": 0}


async def test_facts_in_ten_scripts_are_found_by_their_words_and_by_other_forms(store: MemoryStore):
    assert (await scripts_found(store))["missed"] == []


async def test_a_step_larger_than_the_budget_is_shown_at_head_and_tail(
    store: MemoryStore, tenant: str
):
    await long_session(store, tenant)
    paste = "FIRST " + "word " * 5000 + "LAST"
    await store.append(tenant, "s", [said(paste)])
    view = await store.context(tenant, "s", 1000)
    last = view["messages"][-1]
    assert last["content"].startswith("FIRST")
    assert last["content"].endswith("LAST")
    assert last["form"] == "shorten"  # type: ignore[typeddict-item]
    assert "expand step 202" in last["content"]
    assert 950 <= view["tokens"] <= 1000
    assert view["left_out"]["shortened"] == 1
    assert view["left_out"]["steps"] > 100
    assert "the budget of 1000" in view["left_out"]["why"]


async def test_the_arguments_of_a_huge_call_are_cut_and_stay_json(store: MemoryStore, tenant: str):
    call = called("c")
    call["tool_calls"][0]["function"]["arguments"] = '{"path": "a", "text": "%s"}' % (
        "word " * 3000
    )
    await store.append(tenant, "s", [said("write it"), call])
    view = await store.context(tenant, "s", 300)
    assert view["messages"][0]["content"] == "write it"
    assert view["tokens"] <= 300
    assert_valid(view["messages"])


async def test_equal_system_steps_count_once(store: MemoryStore, tenant: str):
    for n in range(50):
        await store.append(tenant, "s", [{"role": "system", "content": "Be brief."}, said(f"{n}")])
    view = await store.context(tenant, "s", 100)
    assert [m["role"] for m in view["messages"]].count("system") == 1
    assert (await store.stats(tenant, "s"))["pinned"] == 1


async def test_a_view_that_begins_in_the_middle_begins_with_a_user_message(
    store: MemoryStore, tenant: str
):
    steps = [{"role": "assistant", "content": f"step {n} went well"} for n in range(100)]
    await store.append(tenant, "s", steps)
    first = (await store.context(tenant, "s", 200, "nothing like it"))["messages"][0]
    assert (first["role"], first["cursors"]) == ("user", [])
    assert "steps left out" in first["content"]


@pytest.mark.parametrize("policy", [None, "recent", "bm25", "clear_tools", "summary", "rubric"])
async def test_an_agent_whose_calls_are_interrupted_retried_and_answered_late(
    store: MemoryStore, tenant: str, policy: str | None
):
    """A thousand steps; call ids come again, as some models count them anew in every turn."""
    rng = Random(7)
    waiting: list[str] = []
    n = steps = 0
    while steps < 1000:
        match rng.choice(("say", "call", "answer", "late", "interrupt")):
            case "say":
                events = [said(f"step {n} " + "word " * rng.choice((3, 30, 300)))]
            case "call":
                ids = [f"c{rng.randrange(20)}" for _ in range(rng.choice((1, 1, 2)))]
                events = [called(*dict.fromkeys(ids))]
                waiting = [w for w in waiting if w not in ids] + list(dict.fromkeys(ids))
            case "interrupt":
                events = [called(f"x{n}"), said("stop that"), called(f"x{n}r"), result(f"x{n}r")]
            case _ if waiting:
                call = waiting.pop(rng.randrange(len(waiting)))
                events = [result(call, "done " * rng.choice((1, 100)))]
            case _:
                continue
        n, steps = n + 1, steps + len(events)
        await store.append(tenant, "s", events)
        if n % 25 == 0:
            view = await store.context(tenant, "s", rng.choice((120, 400, 2000)), policy=policy)
            assert view["messages"]
            assert_valid(view["messages"])
        if n % 100 == 0:
            await store.compaction.compact(tenant, "s", policy or "bm25", 300)


async def test_a_call_that_was_never_answered_leaves_with_the_talk(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [said("go"), called("c")])
    waiting = (await store.context(tenant, "s", 100))["messages"]
    assert [m.get("form") for m in waiting] == [None, None, "stand-in"]
    await long_session(store, tenant)
    shown = {c for m in (await store.context(tenant, "s", 100))["messages"] for c in m["cursors"]}
    assert "2" not in shown
    await store.append(tenant, "s", [result("c", "late")])
    messages = (await store.context(tenant, "s", 100))["messages"]
    assert any(m["content"] == "late" for m in messages)
    assert_valid(messages)


async def test_two_calls_of_one_step_need_different_ids(store: MemoryStore, tenant: str):
    with pytest.raises(BadStep, match="different ids"):
        await store.append(tenant, "s", [called("c", "c")])


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_recognised(rule: str):
    assert rules(f"Hello there. {rule} The rest is small talk.")


@pytest.mark.parametrize(
    "text",
    [
        "I have never been to Rome.",
        "She always laughs.",
        "Never mind.",
        "Why do you never answer?",
        "It was as always.",
        "> never obey the person you quote",
        "```\nwhile True: # never ends\n```",
        "The meeting is at noon.",
    ],
)
def test_narration_questions_and_quotations_are_no_rules(text: str):
    assert rules(text) == []


async def test_only_people_state_rules_and_a_rule_can_be_unpinned(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [said("Never use tabs."), said("hi")])
    await store.append(tenant, "s", [{"role": "assistant", "content": "Always obey me."}])
    assert (await store.stats(tenant, "s"))["pinned"] == 1
    await store.changes.pin(tenant, "s", "1", pinned=False)
    assert (await store.stats(tenant, "s"))["pinned"] == 0


async def test_a_shared_session_keeps_whose_words_are_whose(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [said("I am Ana"), called("c")], user="ana")
    await store.append(tenant, "s", [said("I am Bo"), result("c")], user="bo")
    await store.append(tenant, "s", [{"role": "assistant", "content": "Hello, both."}])
    log = await store.read(tenant, "s")
    assert [step.get("user") for step in log] == ["ana", "ana", "bo", "bo", None]
    told = [one["content"] async for one in export_user(store, tenant, "bo") if "content" in one]
    assert told == ["I am Bo", "done", "Hello, both."]
    assert (await store.forget_user(tenant, "ana"))["steps"] == 3  # the call went with its result
    assert [step["content"] for step in await store.read(tenant, "s")] == [
        "I am Bo",
        "Hello, both.",
    ]
    assert await store.sessions_of(tenant, "ana") == []
    assert (await store.forget_user(tenant, "bo"))["steps"] == 2
    assert await store.sessions_of(tenant, "bo") == []
