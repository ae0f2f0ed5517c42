"""Any order of append, compact, revert, undo, delete, forget: checked against a list of texts.

The model is what a reader would write down: the steps that were appended and not erased, which
are hidden for now, which are pinned, and which plan is in force. Whatever happens, nothing is
lost, views fit, tool pairs are whole, the floor is there, and every word says where it is from.
"""

import asyncio
import uuid
from collections import defaultdict

import pytest
from burnish.memory import BudgetTooSmall, MemoryStore, connect
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import called, result, said
from tests.memory.views.provider_checks import assert_valid
from tests.memory.views.test_default_view import SMALL_STEP

EXCHANGE = 120  # tokens of the newest exchange in its shortest form, at most
WORDS = ["alpha", "beta", "gamma", "delta", "> ", "</summary-1>", "4711", "é\u2028"]
POLICIES = ["recent", "clear_tools", "bm25", "summary"]


class Session(RuleBasedStateMachine):
    """One session; `url` is set by the test."""

    url = ""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.run = self.runner.run
        self.client = connect(self.url)
        self.store = MemoryStore(self.client, count_words)
        self.tenant = uuid.uuid4().hex
        self.texts: dict[str, str] = {}  # cursor -> content, of every step not erased
        self.tokens: dict[str, int] = {}
        self.pairs: dict[str, str] = {}  # the call's cursor of each result
        self.open: dict[str, str] = {}  # call id -> cursor
        self.hidden: dict[str, set[str]] = {}  # version of a deletion -> what it hides
        self.pinned: set[str] = set()
        self.plans: list[str] = []  # made so far
        self.plan: str | None = None
        self.n = 0
        self.add([{"role": "system", "content": "be brief"}], ["be brief"])
        self.pinned.add("1")

    def add(self, events: list[dict], texts: list[str]) -> list[str]:
        placed = self.run(self.store.append(self.tenant, "s", events))
        cursors = [p["cursor"] for p in placed]
        self.texts |= dict(zip(cursors, texts, strict=True))
        self.tokens |= {p["cursor"]: p["tokens"] for p in placed}
        return cursors

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), pinned=st.booleans())
    def say(self, words: list[str], pinned: bool) -> None:
        self.n += 1
        text = f"n{self.n} " + " ".join(words)
        pinned = pinned and len(words) < 4
        (cursor,) = self.add([said(text, pinned=pinned)], [text])
        if pinned:
            self.pinned.add(cursor)

    @rule()
    def call(self) -> None:
        self.n += 1
        (cursor,) = self.add([called(f"c{self.n}")], [""])
        self.open[f"c{self.n}"] = cursor

    @precondition(lambda self: self.open)
    @rule(data=st.data(), long=st.booleans())
    def answer(self, data: st.DataObject, long: bool) -> None:
        call = data.draw(st.sampled_from(sorted(self.open)))
        text = f"result of {call} " + "word\n" * (40 if long else 1)
        (cursor,) = self.add([result(call, text)], [text])
        self.pairs[cursor] = self.open.pop(call)
        for steps in self.hidden.values():
            if self.pairs[cursor] in steps:
                steps.add(cursor)

    @rule(policy=st.sampled_from(POLICIES), budget=st.integers(100, 400), dry=st.booleans())
    def compact(self, policy: str, budget: int, dry: bool) -> None:
        asked = self.store.compaction.compact(self.tenant, "s", policy, budget, dry_run=dry)
        if self.floor_tokens() > budget:
            with pytest.raises(BudgetTooSmall) as refused:
                self.run(asked)
            assert refused.value.floor == self.floor_tokens()
            return
        made = self.run(asked)
        assert made.plan.after <= budget
        shown = [s.seq for s in made.plan.shown]
        assert len(shown) == len(set(shown))
        for node in made.nodes:
            assert {str(seq) for seq in node.sources} <= set(self.visible())
        if not dry:
            self.plan = made.plan.id
            self.plans.append(made.plan.id)

    @precondition(lambda self: self.plan)
    @rule()
    def revert(self) -> None:
        self.plan = self.run(self.store.compaction.revert(self.tenant, "s"))["plan"]

    @precondition(lambda self: self.plans)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        plan = data.draw(st.sampled_from(self.plans))
        self.run(self.store.compaction.revert(self.tenant, "s", plan))
        self.plan = plan

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        cursor = data.draw(st.sampled_from(sorted(self.texts)))
        unit = self.unit(cursor) - self.all_hidden()
        gone = self.run(self.store.changes.delete(self.tenant, "s", [cursor]))
        assert set(gone["steps"]) == unit
        if unit:
            self.hidden[str(gone["version"])] = unit

    @precondition(lambda self: self.hidden)
    @rule(data=st.data())
    def undelete(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.hidden)))
        undone = self.run(self.store.changes.undo(self.tenant, "s", int(version)))
        assert set(undone["undone"]["cursors"]) <= self.hidden.pop(version)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        cursors = sorted(set(self.texts) - {"1"})
        if not cursors:
            return
        unit = self.unit(data.draw(st.sampled_from(cursors)))
        assert self.run(self.store.forget(self.tenant, "s", [min(unit, key=int)])) == len(unit)
        for cursor in unit:
            self.texts.pop(cursor)
            self.pinned.discard(cursor)
        self.open = {call: c for call, c in self.open.items() if c not in unit}
        self.hidden = {v: s - unit for v, s in self.hidden.items() if not s & unit}

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "texts"):
            return
        log = self.run(self.store.read(self.tenant, "s", limit=1000))
        assert {s["cursor"]: s["content"] for s in log} == self.visible()
        cursors = sorted(self.visible(), key=int)
        if cursors:
            back = self.run(
                self.store.compaction.expand(self.tenant, "s", cursors=cursors, limit=1000)
            )
            assert [s["cursor"] for s in back["steps"]] == cursors
        assert self.run(self.store.stats(self.tenant, "s"))["plan"] == self.plan

    @rule(budget=st.integers(60, 500), policy=st.sampled_from([None, *POLICIES]))
    def look(self, budget: int, policy: str | None) -> None:
        asked = budget
        try:
            view = self.run(self.store.context(self.tenant, "s", budget, "alpha", policy=policy))
        except BudgetTooSmall as refused:
            budget = refused.floor
            view = self.run(self.store.context(self.tenant, "s", budget, "alpha", policy=policy))
        assert budget == asked or asked < budget < self.floor_tokens() + EXCHANGE
        assert view["tokens"] <= budget
        if policy is None and sum(self.tokens[c] for c in self.visible()) > budget > 200:
            assert view["tokens"] >= 0.95 * budget - SMALL_STEP
            assert view["left_out"]["why"]
        assert_valid(view["messages"])
        seen: dict[str, int] = defaultdict(int)
        plain = set()
        for message in view["messages"]:
            for cursor in message["cursors"]:
                seen[cursor] += 1
                assert cursor in self.visible()
            if "node" in message:
                back = (
                    self.run(
                        self.store.compaction.expand(
                            self.tenant, "s", node=message["node"], limit=1000
                        )
                    )
                    if policy is None
                    else {"steps": []}
                )
                assert {s["cursor"] for s in back["steps"]} <= set(self.visible())
            elif message["content"].startswith("<recalled-"):
                for cursor in message["cursors"]:
                    for line in self.texts[cursor].splitlines():
                        assert f"> {line}" in message["content"]
            else:
                if message.get("form") in ("stand-in", "notice"):
                    continue
                (cursor,) = message["cursors"]
                plain.add(cursor)
                if "form" not in message:
                    assert message["content"] == self.texts[cursor]
        assert set(seen.values()) <= {1}
        assert self.floor() <= plain
        for answered, call in self.pairs.items():
            if answered in self.visible():
                assert (answered in seen) == (call in seen)

    def unit(self, cursor: str) -> set[str]:
        root = self.pairs.get(cursor, cursor)
        members = {root, *(r for r, c in self.pairs.items() if c == root)}
        return members & set(self.texts)

    def all_hidden(self) -> set[str]:
        return set().union(*self.hidden.values())

    def visible(self) -> dict[str, str]:
        hidden = self.all_hidden()
        return {c: text for c, text in self.texts.items() if c not in hidden}

    def floor(self) -> set[str]:
        return self.pinned & set(self.visible())

    def floor_tokens(self) -> int:
        units = set().union(*(self.unit(cursor) for cursor in self.floor()))
        return sum(self.tokens[cursor] for cursor in units)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.client.aclose())
            self.runner.close()


@settings(
    max_examples=25,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
class SessionUnderTest(Session):
    pass


def test_any_order_of_operations_keeps_the_laws(redis_url: str):
    Session.url = redis_url
    case = SessionUnderTest.TestCase()
    case.runTest()
