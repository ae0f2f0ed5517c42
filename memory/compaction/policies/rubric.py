"""`rubric`: a recent tail, then rules, goals, decisions, open questions and the latest values.

Untrained, and blind to the query: what a prompt that tells a model how to compact asks for, as rules
of thumb (memory/compaction/rubric_marks.py). The baseline that a learned policy has to beat.
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
from burnish.memory.compaction.rubric_marks import Mark
from burnish.memory.sessions.plan import Action

OPEN = 24  # units: a question this far back has been answered, or given up


class RubricPolicy:
    """`tail` is the share of the budget that the newest units get first."""

    name = "rubric"

    def __init__(self, tail: float = 0.25) -> None:
        self.tail = tail

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        return await asyncio.to_thread(self._decide, task)

    def _decide(self, task: CompactionTask) -> Decisions:
        log = task.log
        n = len(log)
        marks = log.marks.copy()
        closed = np.arange(n) < n - OPEN
        marks[closed & (marks == Mark.QUESTION)] = Mark.NOTHING
        recent = fits_newest(log.tokens, int(task.budget * self.tail))
        left = task.budget - int(log.tokens[n - recent :].sum())
        older = np.arange(n - recent)
        order = np.lexsort((-older, -marks[: n - recent]))
        actions = np.full(n, NUMBER[Action.DROP], np.int8)
        actions[n - recent :] = NUMBER[Action.KEEP]
        actions[fits_in_order(order, log.tokens, left)] = NUMBER[Action.KEEP]

        def why(place: int) -> str:
            if place >= n - recent:
                return "in the recent tail"
            return f"rubric: {Mark(int(marks[place])).name.lower()}"

        return Decisions(actions, marks / max(Mark), why)
