"""`summary`: the recent tail stays whole, everything older is summarised.

The nodes are written by `summaries.build_summaries` within the tokens that this leaves.
"""

from collections.abc import Sequence

from burnish.memory.compaction.policies.base import CompactionTask, Decision
from burnish.memory.compaction.policies.recent import tail_and
from burnish.memory.sessions.plan import Action


class SummaryPolicy:
    """`tail` is the newest units' share of the budget; the rest is for the nodes."""

    name = "summary"

    def __init__(self, tail: float = 0.6) -> None:
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        fits = int(task.log.tokens.sum()) <= task.budget
        available = task.budget if fits else int(task.budget * self.tail)
        return tail_and(task, available, Action.SUMMARISE)
