"""`recent`: the newest units that fit, and nothing before them. What a sliding window does."""

from collections.abc import Sequence

from burnish.memory.compaction.policies.base import CompactionTask, Decision, newest
from burnish.memory.sessions.plan import Action


class RecentPolicy:
    """Spends the whole budget on the newest units."""

    name = "recent"

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        kept = newest(task, task.budget)
        total = max(len(task.candidates), 1)
        return [
            Decision(Action.KEEP, place / total, "in the recent tail")
            if place in kept
            else Decision(Action.DROP, place / total, "older than the tail")
            for place in range(len(task.candidates))
        ]
