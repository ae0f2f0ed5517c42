"""Evidence kept of talk: between people, and of a person with an assistant, by share of tokens.

Held-out topics, wordings and names (learner/compactor/talk_words_heldout.py). The question is the
query; what counts is how much of what states the answer is in the view, whole, and how often all of
it is. `bm25 alone` fills the budget with the best matches, without a recent tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import evidence_kept
from burnish.learner.compactor.talk_worlds import make_talk
from burnish.memory.compaction import (
    Bm25Policy,
    CompactionPolicy,
    RecentPolicy,
    RubricPolicy,
)

SHARES = (0.05, 0.1, 0.2)
WORLDS = {"talk": 20, "assistant": 72}  # at least 300 questions each
QUESTIONS = 20  # of a world at most
FIRST = 50_000  # seed
ALONE = "bm25 alone"
Kept = dict[str, dict[str, float]]  # share -> mean, all


def environments(kind: str, worlds: int) -> list[Environment]:
    return [
        Environment(make_talk(FIRST + n, kind, "heldout", questions=QUESTIONS))
        for n in range(worlds)
    ]


async def evidence_curves(learned: CompactionPolicy, quick: bool = False) -> dict[str, Any]:
    """By kind: the number of questions, and by policy what is kept at each share."""
    policies = {
        "recent": RecentPolicy(),
        "rubric": RubricPolicy(),
        ALONE: Bm25Policy(tail=0.0),
        "bm25": Bm25Policy(),
        "learned": learned,
    }
    found: dict[str, Any] = {}
    for kind, worlds in WORLDS.items():
        measured = environments(kind, max(worlds // 10, 2) if quick else worlds)
        kept = {name: await _curve(policy, measured) for name, policy in policies.items()}
        asked = sum(len(environment.world.questions) for environment in measured)
        found[kind] = {"questions": asked, "kept": kept}
    return found


async def _curve(policy: CompactionPolicy, measured: Sequence[Environment]) -> Kept:
    kept: Kept = {}
    for share in SHARES:
        shares = [
            evidence_kept(
                environment, question, await policy.decide(environment.task(question, share))
            )
            for environment in measured
            for question in environment.world.questions
        ]
        kept[f"{share:g}"] = averages(shares)
    return kept


def averages(shares: Sequence[float]) -> dict[str, float]:
    """The mean share of the evidence, and how often it is all of it."""
    whole = [share == 1 for share in shares]
    return {"mean": round(sum(shares) / len(shares), 4), "all": round(sum(whole) / len(whole), 4)}


def with_peer(figures: Mapping[str, Any], kind: str) -> dict[str, Kept]:
    """What each policy keeps of a kind of talk, Mem0 among them where it was measured."""
    peer = figures.get("peers", {}).get("mem0_talk", {})
    return {**figures["talk"][kind]["kept"], **({"mem0": peer[kind]} if kind in peer else {})}
