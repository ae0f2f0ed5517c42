"""`clear_tools`: old tool results become placeholders, the newest N tool uses stay whole.

As Anthropic's context editing (clear_tool_uses_20250919) does it. Where that is not enough, the
oldest units go.
"""

from collections.abc import Sequence

from burnish.memory.compaction.policies.base import Candidate, CompactionTask, Decision
from burnish.memory.sessions.plan import Action


class ClearToolsPolicy:
    """`keep` is how many of the newest tool uses stay whole."""

    name = "clear_tools"

    def __init__(self, keep: int = 3) -> None:
        self.keep = keep

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        total = max(len(task.candidates), 1)
        uses = [place for place, c in enumerate(task.candidates) if _is_tool_use(c)]
        old = set(uses[: max(len(uses) - self.keep, 0)])
        decisions = [
            Decision(Action.CLEAR, place / total, f"not among the newest {self.keep} tool uses")
            if place in old
            else Decision(Action.KEEP, place / total, "no old tool result")
            for place in range(len(task.candidates))
        ]
        pairs = zip(task.candidates, decisions, strict=True)
        over = sum(c.cost(d.action) for c, d in pairs) - task.budget
        for place, candidate in enumerate(task.candidates):
            if over <= 0:
                break
            over -= candidate.cost(decisions[place].action)
            decisions[place] = Decision(Action.DROP, place / total, "oldest, and over the budget")
        return decisions


def _is_tool_use(candidate: Candidate) -> bool:
    return any(step.role == "tool" for step in candidate.unit.steps)
