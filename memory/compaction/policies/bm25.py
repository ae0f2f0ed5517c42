"""`bm25`: a short recent tail, then what shares rare words with the query, then more tail.

Scored over the candidates themselves (search/bm25.py), whose terms are counted once.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from burnish.memory.compaction.policies.base import (
    NUMBER,
    CompactionTask,
    Decision,
    Decisions,
    fits_in_order,
    fits_newest,
)
from burnish.memory.sessions.plan import Action


class Bm25Policy:
    """`tail` is the share of the budget that the newest units get first."""

    name = "bm25"

    def __init__(self, tail: float = 0.25) -> None:
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        # Counting the terms of a long log takes a while; the event loop must not wait for it.
        return await asyncio.to_thread(self.decide_sync, task)

    def decide_sync(self, task: CompactionTask) -> Decisions:
        """`decide` in the calling thread."""
        log = task.log
        n, scores = len(log), log.bm25(task.query)
        recent = fits_newest(log.tokens, int(task.budget * self.tail))
        left = task.budget - int(log.tokens[n - recent :].sum())
        # The newest come before the best of them in no order: they are in already.
        order = np.lexsort((-np.arange(n), -scores))
        order = order[order < n - recent]
        kept = fits_in_order(order, log.tokens, left)
        actions = np.full(n, NUMBER[Action.DROP], np.int8)
        actions[n - recent :] = NUMBER[Action.KEEP]
        actions[kept] = NUMBER[Action.KEEP]

        def why(place: int) -> str:
            if place >= n - recent:
                return "in the recent tail"
            if actions[place] == NUMBER[Action.DROP]:
                return f"BM25 {scores[place]:.2f}, no room"
            known = scores[place] > 0
            return f"BM25 {scores[place]:.2f}" if known else "recent, and there was room"

        return Decisions(actions, scores, why)
