"""`recent`: the newest units that fit, and nothing before them. What a sliding window does."""

from collections.abc import Sequence

import numpy as np
from burnish.memory.compaction.policies.base import (
    NUMBER,
    CompactionTask,
    Decision,
    Decisions,
    fits_newest,
)
from burnish.memory.sessions.plan import Action


class RecentPolicy:
    """Spends the whole budget on the newest units."""

    name = "recent"

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        return tail_and(task, task.budget, Action.DROP)


def tail_and(task: CompactionTask, available: int, older: Action) -> Decisions:
    """The newest units within `available` tokens whole, and one action for all older ones."""
    n = len(task.log)
    first = n - fits_newest(task.log.tokens, available)
    actions = np.full(n, NUMBER[older], np.int8)
    actions[first:] = NUMBER[Action.KEEP]
    return Decisions(
        actions,
        np.arange(n) / max(n, 1),
        lambda place: "in the recent tail" if place >= first else "older than the tail",
    )
