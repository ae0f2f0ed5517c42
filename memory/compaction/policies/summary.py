"""`summary`: the recent tail stays whole, everything older is summarised.

The nodes are written by `summaries.build_summaries` within the tokens that this leaves.
"""

from collections.abc import Sequence

from burnish.memory.compaction.policies.base import CompactionTask, Decision, newest
from burnish.memory.sessions.plan import Action


class SummaryPolicy:
    """`tail` is the newest units' share of the budget; the rest is for the nodes."""

    name = "summary"

    def __init__(self, tail: float = 0.6) -> None:
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        fits = sum(candidate.tokens for candidate in task.candidates) <= task.budget
        kept = newest(task, task.budget if fits else int(task.budget * self.tail))
        total = max(len(task.candidates), 1)
        return [
            Decision(Action.KEEP, place / total, "in the recent tail")
            if place in kept
            else Decision(Action.SUMMARISE, place / total, "older than the tail")
            for place in range(len(task.candidates))
        ]
