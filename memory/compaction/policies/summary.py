"""`summary`: the recent tail stays whole, everything older stands behind summary nodes.

It only decides; the nodes are written by `summaries.build`, from the room this leaves.
"""

from collections.abc import Sequence

from burnish.memory.compaction.policies.base import Decision, Task, newest
from burnish.memory.sessions.plan import Verdict


class Summary:
    name = "summary"

    def __init__(self, tail: float = 0.6) -> None:
        self.tail = tail  # of the budget; the rest is for the nodes

    async def decide(self, task: Task) -> Sequence[Decision]:
        fits = sum(candidate.tokens for candidate in task.candidates) <= task.budget
        kept = newest(task, task.budget if fits else int(task.budget * self.tail))
        total = max(len(task.candidates), 1)
        return [
            Decision(Verdict.KEEP, place / total, "in the recent tail")
            if place in kept
            else Decision(Verdict.SUMMARISE, place / total, "older than the tail")
            for place in range(len(task.candidates))
        ]
