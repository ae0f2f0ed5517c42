"""The compactor's gate: held-out worlds at fixed budgets, candidate against champion and BM25.

Against the champion a paired test, since both decide on the same questions: a candidate passes unless it
is worse by more than chance explains. BM25 is a floor: on worlds and on talk a candidate keeps no less of
the evidence than a budget full of the best matches, which need no training. The worlds have held-out
words, and seeds apart from the benchmark's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import (
    Decide,
    evaluate_question,
    evidence_kept,
)
from burnish.learner.compactor.talk_worlds import make_talk
from burnish.learner.compactor.world_generator import make_world
from burnish.learner.gate.checks import paired_difference
from burnish.learner.gate.logged import ONE_SIDED_95
from burnish.learner.gate.report import Check
from burnish.memory.compaction import Bm25Policy, LearnedPolicy, Scorer
from pydantic import BaseModel

SEEDS = 900_000_000  # from here on
SHARES = (0.05, 0.1, 0.2)
TALKS = {"talk": 4, "assistant": 12}  # worlds of each kind, 10 questions each at most


@dataclass(frozen=True)
class CompactorGateLimits:
    """How much is measured, and how much worse a candidate may be."""

    worlds: int = 6
    margin: float = 0.01  # of the score, beyond chance


class CompactorGateReport(BaseModel):
    """The gate's result; `score` (the candidate's) and `champion` by budget share."""

    passed: bool
    suite: str
    seconds: float
    checks: list[Check]
    score: dict[str, float]
    champion: dict[str, float]

    @property
    def why_not(self) -> str | None:
        return "; ".join(check.says for check in self.checks if not check.passed) or None


def evaluate(
    candidate: Scorer, champion: Scorer, limits: CompactorGateLimits | None = None
) -> CompactorGateReport:
    """Compare a candidate with the champion."""
    limits = limits or CompactorGateLimits()
    began = time.monotonic()
    environments = _environments(limits.worlds)
    checks, scores = [], ({}, {})
    for share in SHARES:
        new, old = _answers(candidate, environments, share), _answers(champion, environments, share)
        scores[0][f"{share:g}"], scores[1][f"{share:g}"] = _mean(new), _mean(old)
        moved, error = paired_difference(old, new)
        low = -(limits.margin + ONE_SIDED_95 * error)
        checks.append(
            Check(
                name=f"score at {share:g}",
                value=moved,
                low=low,
                passed=moved >= low,
                says=f"score kept at {share:.0%} of the tokens moved by {moved:+.3f}"
                f" against the champion (allowed: {low:.3f})",
            )
        )
    checks += _above_bm25(candidate, {"worlds": environments, **_talks()})
    return CompactorGateReport(
        passed=all(check.passed for check in checks),
        suite=f"heldout-{SEEDS}-{limits.worlds}",
        seconds=round(time.monotonic() - began, 3),
        checks=checks,
        score=scores[0],
        champion=scores[1],
    )


@lru_cache(maxsize=2)
def _environments(worlds: int) -> tuple[Environment, ...]:
    return tuple(Environment(make_world(SEEDS + seed, "heldout")) for seed in range(worlds))


@lru_cache(maxsize=1)
def _talks() -> dict[str, tuple[Environment, ...]]:
    return {
        kind: tuple(
            Environment(make_talk(SEEDS + seed, kind, "heldout", questions=10))
            for seed in range(worlds)
        )
        for kind, worlds in TALKS.items()
    }


def _above_bm25(candidate: Scorer, by_kind: dict[str, tuple[Environment, ...]]) -> Iterator[Check]:
    """The evidence kept on every kind of log, at every share."""
    learned, bm25 = LearnedPolicy(candidate).decide_sync, Bm25Policy(tail=0.0).decide_sync
    for kind, environments in by_kind.items():
        for share in SHARES:
            ours, floor = (_evidence(decide, environments, share) for decide in (learned, bm25))
            yield Check(
                name=f"{kind} at {share:g} against BM25",
                value=ours - floor,
                low=0.0,
                passed=ours >= floor,
                says=f"of the evidence in {kind} {ours:.3f} is kept at {share:.0%} of the tokens,"
                f" by BM25 {floor:.3f} (allowed: no less)",
            )


def _evidence(decide: Decide, environments: Sequence[Environment], share: float) -> float:
    return _mean(
        [
            evidence_kept(environment, question, decide(environment.task(question, share)))
            for environment in environments
            for question in environment.world.questions
        ]
    )


def _answers(scorer: Scorer, environments: Sequence[Environment], share: float) -> list[bool]:
    policy = LearnedPolicy(scorer)
    return [
        evaluate_question(policy.decide_sync, environment, question, share)[0]
        for environment in environments
        for question in environment.world.questions
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
