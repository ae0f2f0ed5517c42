"""`bm25`: a short recent tail, then what shares rare words with the query, then more tail.

Scored over the candidates themselves (search/bm25.py), so that it needs no index.
"""

import asyncio
from collections.abc import Sequence

from burnish.memory.compaction.policies.base import CompactionTask, Decision, newest
from burnish.memory.search.bm25 import bm25
from burnish.memory.sessions.plan import Action


class Bm25Policy:
    """`tail` is the share of the budget that the newest units get first."""

    name = "bm25"

    def __init__(self, tail: float = 0.25) -> None:
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        # Counting the terms of a long log takes a while; the event loop must not wait for it.
        scores = await asyncio.to_thread(bm25, task.query, [c.unit.text for c in task.candidates])
        return fill(task, scores.tolist(), self.tail, "BM25")


def fill(task: CompactionTask, scores: Sequence[float], tail: float, name: str) -> list[Decision]:
    """Keep a tail of that share of the budget, the best of `scores` above 0, the newest of the rest.

    `name` is the score's, for the reasons given.
    """
    recent = newest(task, int(task.budget * tail))
    kept = dict.fromkeys(recent, "in the recent tail")
    remaining = task.budget - sum(task.candidates[place].tokens for place in recent)
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], -place))
    ranked = [(place, f"{name} {scores[place]:.2f}") for place in best if scores[place] > 0]
    ranked += [(p, "recent, and there was room") for p in reversed(range(len(scores)))]
    for place, why in ranked:
        if place not in kept and task.candidates[place].tokens <= remaining:
            kept[place] = why
            remaining -= task.candidates[place].tokens
    return [
        Decision(Action.KEEP, scores[place], kept[place])
        if place in kept
        else Decision(Action.DROP, scores[place], f"{name} {scores[place]:.2f}, no room")
        for place in range(len(scores))
    ]
