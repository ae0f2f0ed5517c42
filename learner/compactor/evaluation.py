"""Evaluation of a policy: the share of the score it keeps at each share of the tokens.

The score is the share of questions answered rightly from a view; on the full log the reader answers
all of them. The question is the query of the view.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.world import WorldQuestion
from burnish.memory.compaction import Action, CompactionPolicy, CompactionTask, Decision

SHARES = (0.02, 0.03, 0.05, 0.07, 0.10, 0.14, 0.20, 0.30, 0.40, 0.50)
KEPT = 0.98  # of the score
Decide = Callable[[CompactionTask], Sequence[Decision]]


@dataclass(frozen=True)
class BudgetPoint:
    """At a budget of `share` of the log's tokens: the `score`, and `tokens` used, a share too."""

    share: float
    score: float
    tokens: float


def score_curve(
    decide: Decide,
    environments: Sequence[Environment],
    shares: Sequence[float] = SHARES,
    by_kind: dict[tuple[str, float], list[bool]] | None = None,
) -> list[BudgetPoint]:
    """One point per share, over all questions of all worlds; `by_kind` collects single answers."""
    points = []
    for share in shares:
        right: list[bool] = []
        used: list[float] = []
        for environment in environments:
            for question in environment.world.questions:
                correct, tokens = evaluate_question(decide, environment, question, share)
                right.append(correct)
                used.append(tokens)
                if by_kind is not None:
                    by_kind.setdefault((question.kind, share), []).append(correct)
        points.append(BudgetPoint(share, sum(right) / len(right), sum(used) / len(used)))
    return points


def evaluate_question(
    decide: Decide, environment: Environment, question: WorldQuestion, share: float
) -> tuple[bool, float]:
    """(answered rightly, share of the log's tokens the view costs)"""
    decisions = decide(environment.task(question, share))
    return environment.is_correct(question, decisions), environment.tokens(
        decisions
    ) / environment.world.tokens


def evidence_kept(
    environment: Environment, question: WorldQuestion, decisions: Sequence[Decision]
) -> float:
    """The share of the steps that state the answer which the view shows whole."""
    pairs = zip(environment.candidates, decisions, strict=True)
    whole = {s.seq for c, d in pairs if d.action is Action.KEEP for s in c.unit.steps}
    whole |= {step.seq for step in environment.floor}
    return len(whole & set(question.evidence)) / len(question.evidence)


def least_budget(points: Sequence[BudgetPoint], kept: float = KEPT) -> float | None:
    """The smallest budget share from which on the score stays at least `kept`; None if there is none."""
    found = None
    for point in sorted(points, key=lambda p: -p.share):
        if point.score < kept:
            break
        found = point.share
    return found


def run_sync(policy: CompactionPolicy) -> Decide:
    """The policy as a plain function, each call in an event loop of its own."""

    async def decide(task: CompactionTask) -> Sequence[Decision]:
        return await policy.decide(task)

    return lambda task: asyncio.run(decide(task))
