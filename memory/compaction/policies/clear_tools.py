"""`clear_tools`: old tool results become placeholders, the newest N tool uses stay whole.

As Anthropic's context editing (clear_tool_uses_20250919) does it. Where that is not enough, the
oldest units go.
"""

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


class ClearToolsPolicy:
    """`keep` is how many of the newest tool uses stay whole."""

    name = "clear_tools"

    def __init__(self, keep: int = 3) -> None:
        self.keep = keep

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        log = task.log
        n = len(log)
        uses = np.flatnonzero(log.tools)
        old = np.zeros(n, bool)
        old[uses[: max(len(uses) - self.keep, 0)]] = True
        first = n - fits_newest(np.where(old, log.cleared, log.tokens), task.budget)
        actions = np.where(old, NUMBER[Action.CLEAR], NUMBER[Action.KEEP]).astype(np.int8)
        actions[:first] = NUMBER[Action.DROP]

        def why(place: int) -> str:
            if place < first:
                return "oldest, and over the budget"
            if old[place]:
                return f"not among the newest {self.keep} tool uses"
            return "no old tool result"

        return Decisions(actions, np.arange(n) / max(n, 1), why)
