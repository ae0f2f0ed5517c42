"""What single policies keep."""

from random import Random

import numpy as np
from burnish.learner.compactor.world import LogBuilder, rough_count
from burnish.memory.compaction import (
    Bm25Policy,
    CompactionTask,
    Decision,
    Decisions,
    RubricPolicy,
    candidate,
    spent,
)
from burnish.memory.compaction.policies.base import fits_in_order, fits_newest
from burnish.memory.sessions.plan import Action
from burnish.memory.sessions.units import Unit
from hypothesis import given
from hypothesis import strategies as st


def price(text: str) -> int:
    return rough_count(text) + 6


def task(texts: list[str], budget: int, query: str = "") -> CompactionTask:
    log = LogBuilder(Random(0), rough_count)
    for text in texts:
        log.say("user", text)
    return CompactionTask([candidate(Unit((s,)), price) for s in log.steps], query, budget)


async def kept(policy, asked: CompactionTask) -> list[str]:
    decisions = await policy.decide(asked)
    assert spent(asked, decisions) <= asked.budget
    pairs = zip(asked.candidates, decisions, strict=True)
    return [c.unit.text for c, d in pairs if d.action is Action.KEEP]


async def test_the_rubric_keeps_rules_goals_and_decisions_before_talk():
    telling = [
        "Never send an invoice on a Sunday.",
        "My goal is to open the shop in May.",
        "We decided to take the blue paint.",
    ]
    talk = [f"The weather is fine over there {word}" for word in "abcdefghijklmnopqrstuvwxyz"]
    shown = await kept(RubricPolicy(), task([*telling, *talk], 120))
    assert shown[:3] == telling
    assert talk[-1] in shown  # and a recent tail


async def test_bm25_prefers_the_newer_of_equal_matches():
    shown = await kept(Bm25Policy(tail=0), task(["a red boat"] * 3 + ["rain"] * 9, 20, "red boat"))
    assert shown == ["a red boat"] * 2


@given(
    sizes=st.lists(st.integers(1, 30), max_size=30),
    available=st.integers(0, 200),
    order=st.randoms(use_true_random=False),
)
def test_filling_passes_over_what_does_not_fit(sizes: list[int], available: int, order) -> None:
    places = list(range(len(sizes)))
    order.shuffle(places)
    left, expected = available, []
    for place in places:
        if sizes[place] <= left:
            expected.append(place)
            left -= sizes[place]
    tokens = np.array(sizes, np.int64)
    assert fits_in_order(np.array(places, np.int64), tokens, available) == expected
    newest = fits_newest(tokens, available)
    assert sum(sizes[len(sizes) - newest :]) <= available
    assert newest == len(sizes) or sum(sizes[len(sizes) - newest - 1 :]) > available


def test_decisions_in_columns_are_decisions() -> None:
    plain = [Decision(Action.KEEP, 1.0, "whole"), Decision(Action.DROP, 0.5, "no room")]
    columns = Decisions.of(plain)
    assert columns == plain
    assert columns.places(Action.KEEP) == [0]
    assert list(columns.dropped([0], "over")) == [Decision(Action.DROP, 1.0, "over"), plain[1]]
