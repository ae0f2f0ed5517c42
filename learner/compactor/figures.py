"""How much of the score a policy keeps at which share of the tokens: the measure of everything.

The score kept is the share of questions still answered rightly from a view; on the full log the
reader answers all of them. Views are asked for with the question as query, as `context` is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from burnish.learner.compactor.episodes import Arena
from burnish.learner.compactor.logs import Question
from burnish.memory.compaction.policies.base import Decision, Policy, Task

SHARES = (0.02, 0.03, 0.05, 0.07, 0.10, 0.14, 0.20, 0.30, 0.40, 0.50)
KEPT = 0.98
Decide = Callable[[Task], Sequence[Decision]]


@dataclass(frozen=True)
class Point:
    """At a budget of `share` of the log's tokens: `score` kept, `tokens` used (a share too)."""

    share: float
    score: float
    tokens: float


def curve(
    decide: Decide,
    arenas: Sequence[Arena],
    shares: Sequence[float] = SHARES,
    by_kind: dict[tuple[str, float], list[bool]] | None = None,
) -> list[Point]:
    """One point per share, over all questions of all worlds."""
    points = []
    for share in shares:
        right: list[bool] = []
        used: list[float] = []
        for arena in arenas:
            for question in arena.world.questions:
                done, tokens = trial(decide, arena, question, share)
                right.append(done)
                used.append(tokens)
                if by_kind is not None:
                    by_kind.setdefault((question.kind, share), []).append(done)
        points.append(Point(share, sum(right) / len(right), sum(used) / len(used)))
    return points


def trial(decide: Decide, arena: Arena, question: Question, share: float) -> tuple[bool, float]:
    """(answered rightly, share of the log's tokens the view costs)"""
    decisions = decide(arena.task(question, share))
    return arena.right(question, decisions), arena.tokens(decisions) / arena.world.tokens


def enough(points: Sequence[Point], kept: float = KEPT) -> float | None:
    """The smallest budget from which on the score stays at least `kept`; None: not in range."""
    found = None
    for point in sorted(points, key=lambda p: -p.share):
        if point.score < kept:
            break
        found = point.share
    return found


def now(policy: Policy) -> Decide:
    """The policy's decisions without an event loop of one's own."""

    async def decided(task: Task) -> Sequence[Decision]:
        return await policy.decide(task)

    return lambda task: asyncio.run(decided(task))
