"""Compaction: the view shrinks, the log does not, and all of it can be taken back."""

import asyncio

import pytest
from burnish.memory import (
    BadCursor,
    BudgetTooSmall,
    Forgotten,
    MemoryStore,
    Stale,
    UnknownPlan,
    UnknownPolicy,
    connect,
)

from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import called, result, said
from tests.memory.views.test_default_view import long_session


def cursors(view) -> list[str]:
    return [cursor for message in view["messages"] for cursor in message["cursors"]]


async def test_a_dry_run_reports_and_changes_nothing(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    before = await store.context(tenant, "s", 10_000)
    report = (await store.compaction.compact(tenant, "s", "recent", 120, dry_run=True)).public()
    assert report["plan"] is None
    assert report["tokens_before"] == (await store.stats(tenant, "s"))["tokens"]
    assert report["tokens_after"] <= 120
    assert report["counts"]["drop"] + report["counts"]["keep"] == 200
    assert len(report["left"]) + report["left_more"] == report["counts"]["drop"]
    assert report["left"][0]["why"] == "older than the tail"
    assert await store.context(tenant, "s", 10_000) == before
    assert (await store.stats(tenant, "s"))["plan"] is None


async def test_the_view_follows_the_plan_and_the_tail_grows_behind_it(
    store: MemoryStore, tenant: str
):
    await long_session(store, tenant)
    made = await store.compaction.compact(tenant, "s", "recent", 120)
    assert made.plan.id == "p1"
    view = await store.context(tenant, "s", 120)
    assert view["plan"] == "p1"
    assert {c["cursor"] for c in made.public()["left"]}.isdisjoint(cursors(view)[:1])
    kept = [str(shown.seq) for shown in made.plan.shown]
    plain = [m for m in view["messages"] if not m["content"].startswith("<recalled-")]
    assert {"1", *kept} <= {cursor for m in plain for cursor in m["cursors"]}
    await store.append(tenant, "s", [said("news"), called("c"), result("c")])
    plain = (await store.context(tenant, "s", 10_000, "news"))["messages"]
    assert [m["cursors"][0] for m in plain if len(m["cursors"]) == 1][-3:] == ["202", "203", "204"]
    stats = await store.stats(tenant, "s")
    assert stats["tokens_saved"] == stats["tokens"] - stats["tokens_view"] > 0


async def test_what_a_plan_drops_is_still_recalled_searched_and_expanded(
    store: MemoryStore, tenant: str
):
    await long_session(store, tenant)
    await store.compaction.compact(tenant, "s", "recent", 120)
    view = await store.context(tenant, "s", 1000, "what is the launch code?")
    assert any("> the launch code is ZEBRA-42" in m["content"] for m in view["messages"])
    assert (await store.search(tenant, "s", "launch code"))[0]["cursor"] == "9"
    (step,) = (await store.compaction.expand(tenant, "s", cursors=["9"]))["steps"]
    assert step["content"] == "the launch code is ZEBRA-42"


async def test_tools_are_cleared_the_newest_uses_stay(store: MemoryStore, tenant: str):
    for n in range(6):
        await store.append(
            tenant, "s", [called(f"c{n}"), result(f"c{n}", f"report {n} " + "word " * 40)]
        )
    made = await store.compaction.compact(tenant, "s", "clear_tools", 300)
    assert made.plan.after <= 300
    view = await store.context(tenant, "s", 300)
    results = [m for m in view["messages"] if m["role"] == "tool"]
    forms = [m.get("form") for m in results]
    assert forms[:2] + forms[3:] == ["clear"] * 2 + [None] * 3  # what was left went to the third
    assert "expand step 2" in results[0]["content"]
    whole = await store.compaction.expand(tenant, "s", cursors=["2"])
    assert [s["cursor"] for s in whole["steps"]] == ["1", "2"]
    assert whole["steps"][1]["content"].startswith("report 0 ")


async def test_without_a_model_a_summary_is_the_telling_lines(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    made = await store.compaction.compact(tenant, "s", "summary", 250)
    assert made.plan.after <= 250
    (node,) = made.nodes
    assert node.made_by == "extract"
    assert "ZEBRA-42" in node.text
    view = await store.context(tenant, "s", 400)
    (message,) = [m for m in view["messages"] if m.get("node")]
    assert message["role"] == "user"
    assert message["content"].splitlines()[0].startswith("<summary-")
    pages, after = [], "0"
    while after is not None:
        page = await store.compaction.expand(tenant, "s", node=node.id, after=after, limit=70)
        pages += page["steps"]
        after = page["next"]
    assert [int(step["cursor"]) for step in pages] == list(node.sources)


async def test_nodes_are_made_from_raw_steps_and_the_same_steps_make_the_same_node(
    store: MemoryStore, tenant: str
):
    await long_session(store, tenant)
    first = await store.compaction.compact(tenant, "s", "summary", 250)
    again = await store.compaction.compact(tenant, "s", "summary", 250)
    assert [n.id for n in again.nodes] == [n.id for n in first.nodes]
    await store.append(tenant, "s", [said(f"more {n}") for n in range(60)])
    (later,) = (await store.compaction.compact(tenant, "s", "summary", 250)).nodes
    assert set(first.nodes[0].sources) < set(later.sources)
    assert "<summary-" not in later.text


async def test_revert_goes_back_and_any_kept_plan_can_be_restored(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    views = [await store.context(tenant, "s", 4000)]
    for budget in (300, 100):
        await store.compaction.compact(tenant, "s", "recent", budget)
        views.append(await store.context(tenant, "s", 4000))
    assert (await store.compaction.revert(tenant, "s"))["plan"] == "p1"
    assert (await store.context(tenant, "s", 4000))["messages"] == views[1]["messages"]
    assert (await store.compaction.revert(tenant, "s"))["plan"] is None
    assert (await store.context(tenant, "s", 4000))["messages"] == views[0]["messages"]
    with pytest.raises(UnknownPlan, match="nothing to revert"):
        await store.compaction.revert(tenant, "s")
    assert (await store.compaction.revert(tenant, "s", "p2"))["plan"] == "p2"
    assert (await store.context(tenant, "s", 4000))["messages"] == views[2]["messages"]
    with pytest.raises(UnknownPlan, match="p9"):
        await store.compaction.revert(tenant, "s", "p9")
    plans = await store.compaction.plans(tenant, "s")
    assert [(p["plan"], p["in_force"]) for p in plans] == [("p2", True), ("p1", False)]


async def test_the_decision_on_every_unit_can_be_read(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    made = await store.compaction.compact(tenant, "s", "bm25", 150, query="launch code")
    page = await store.compaction.decisions(tenant, "s", made.plan.id, after=8, limit=1)
    (row,) = page["verdicts"]
    assert (row["cursor"], row["verdict"]) == ("9", "keep")
    assert row["why"].startswith("BM25 ")
    assert page["policy"] == "bm25"


async def test_two_compactions_at_once_and_writers_lose_nothing(store: MemoryStore, tenant: str):
    await long_session(store, tenant)

    async def write() -> None:
        for n in range(20):
            await store.append(tenant, "s", [said(f"late {n}", id=f"late-{n}")])

    made = await asyncio.gather(
        store.compaction.compact(tenant, "s", "recent", 120),
        write(),
        store.compaction.compact(tenant, "s", "bm25", 120),
    )
    assert {made[0].plan.id, made[2].plan.id} == {"p1", "p2"}
    view = await store.context(tenant, "s", 4000)
    shown = " ".join(message["content"] for message in view["messages"])
    assert all(f"late {n}" in shown for n in range(20))
    log = await store.read(tenant, "s", limit=1000)
    assert len(log) == 221


async def test_with_a_version_a_compaction_is_refused_after_any_change(
    store: MemoryStore, tenant: str
):
    await long_session(store, tenant)
    seen = (await store.stats(tenant, "s"))["version"]
    await store.append(tenant, "s", [said("one more")])
    with pytest.raises(Stale, match=f"not {seen}"):
        await store.compaction.compact(tenant, "s", "recent", 120, version=seen)
    await store.compaction.compact(tenant, "s", "recent", 120, version=seen + 1)


async def test_bad_requests_are_named(store: MemoryStore, tenant: str):
    await store.append(tenant, "s", [{"role": "system", "content": "word " * 50}, said("hi")])
    with pytest.raises(BudgetTooSmall, match="56"):
        await store.compaction.compact(tenant, "s", "recent", 20)
    with pytest.raises(UnknownPolicy, match="known: bm25, clear_tools, recent, rubric, summary"):
        await store.compaction.compact(tenant, "s", "magic", 200)
    with pytest.raises(UnknownPlan, match="nx"):
        await store.compaction.expand(tenant, "s", node="nx")
    with pytest.raises(BadCursor, match="77"):
        await store.compaction.expand(tenant, "s", cursors=["77"])


async def test_erasure_reaches_summaries_and_later_views(store: MemoryStore, tenant: str):
    await long_session(store, tenant)
    made = await store.compaction.compact(tenant, "s", "summary", 250)
    await store.forget(tenant, "s", ["9"])
    with pytest.raises(UnknownPlan):
        await store.compaction.expand(tenant, "s", node=made.nodes[0].id)
    view = await store.context(tenant, "s", 4000, "launch code")
    assert not any("ZEBRA-42" in message["content"] for message in view["messages"])
    later = await store.compaction.compact(tenant, "s", "summary", 250)
    assert not any("ZEBRA-42" in node.text for node in later.nodes)
    await store.forget(tenant, "s")
    with pytest.raises(Forgotten):
        await store.compaction.compact(tenant, "s", "recent", 100)


async def test_ten_times_over_nothing_is_lost_that_once_keeps(store: MemoryStore, tenant: str):
    """Each pass decides over raw steps, so the tenth is the first."""
    await long_session(store, tenant)
    first = await store.compaction.compact(tenant, "s", "bm25", 150, query="launch code")
    for _ in range(9):
        last = await store.compaction.compact(tenant, "s", "bm25", 150, query="launch code")
    assert last.plan.shown == first.plan.shown
    whole = [s["cursor"] for s in await store.read(tenant, "s", limit=1000)]
    found = await store.compaction.expand(tenant, "s", cursors=whole, limit=1000)
    assert [s["cursor"] for s in found["steps"]] == whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("201", False),
        ("", False),
        ("A pleasant talk about many things that people like to discuss together.", False),
        (
            "Step 7 gave the launch code ZEBRA-42; other steps were uneventful, long, fill room.",
            True,
        ),
    ],
)
async def test_a_summary_that_says_nothing_of_its_steps_is_not_taken(
    redis_url: str, tenant: str, text: str, says: bool
):
    class Summarise:
        window = 4000

        async def __call__(self, prompt: str, max_tokens: int) -> str:
            return text

    client = connect(redis_url)
    store = MemoryStore(client, count_words, summarise=Summarise())
    await long_session(store, tenant)
    made = await store.compaction.compact(tenant, "s", "summary", 600)
    assert ("model" in {node.made_by for node in made.nodes}) is says
    await client.aclose()
