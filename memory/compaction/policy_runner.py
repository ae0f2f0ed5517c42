"""Running a compaction policy by name: a time limit, the budget enforced, summaries written.

When a policy takes too long or lacks the served model, BM25 decides instead and the outcome says
so. A policy that overspends loses its units of lowest score.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policies.base import (
    Candidate,
    CompactionTask,
    Decision,
    Decisions,
    candidate,
    costs,
    spent,
)
from burnish.memory.compaction.policies.bm25 import Bm25Policy
from burnish.memory.compaction.summaries import Summariser, build_summaries
from burnish.memory.errors import PolicyFailed
from burnish.memory.sessions.plan import SHOWN_ACTIONS, Action, ShownUnit, UnitDecision
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import Price
from burnish.memory.views.view import SummaryNode


@dataclass(frozen=True)
class PolicyOutcome:
    """What a policy decided on a task, within its budget."""

    policy: str
    fell_back: str  # why not the policy asked for, or ""
    task: CompactionTask
    decisions: Decisions
    nodes: Sequence[SummaryNode]

    @property
    def tokens(self) -> int:
        return spent(self.task, self.decisions) + sum(node.tokens for node in self.nodes)

    @property
    def shown_actions(self) -> list[tuple[Candidate, Action]]:
        """Those that the view shows, in the order of the log."""
        places = self.decisions.places(*SHOWN_ACTIONS)
        return [(self.task.candidates[place], self.decisions.action(place)) for place in places]

    @property
    def pairs(self) -> list[tuple[Candidate, Decision]]:
        return list(zip(self.task.candidates, self.decisions, strict=True))

    @property
    def trace(self) -> str:
        return self.decisions.trace

    @property
    def shown(self) -> tuple[ShownUnit, ...]:
        places = self.decisions.places(*SHOWN_ACTIONS)
        scores = self.decisions.scores[places].tolist()
        return tuple(
            ShownUnit(candidate.unit.first, action, round(score, 4))
            for (candidate, action), score in zip(self.shown_actions, scores, strict=True)
        )

    @property
    def unit_decisions(self) -> list[UnitDecision]:
        return [
            UnitDecision(c.unit.first, c.tokens, d.action, round(d.score, 4), d.why)
            for c, d in self.pairs
        ]


class _Units(Sequence[Unit]):
    """The units of some candidates, looked up where they are read."""

    def __init__(self, candidates: Sequence[Candidate], places: Sequence[int]) -> None:
        self._candidates, self._places = candidates, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Unit: ...
    @overload
    def __getitem__(self, at: slice) -> list[Unit]: ...
    def __getitem__(self, at: int | slice) -> Unit | list[Unit]:
        if isinstance(at, slice):
            return [self._candidates[place].unit for place in self._places[at]]
        return self._candidates[self._places[at]].unit


class PolicyRunner:
    """The policies by name, the summariser if there is one, and `seconds` that both may take."""

    def __init__(
        self,
        policies: CompactionPolicies,
        price: Price,
        summarise: Summariser | None = None,
        *,
        seconds: float,
    ) -> None:
        self.policies = policies
        self._price = price
        self._summarise = summarise
        self._seconds = seconds

    async def priced(self, units: Sequence[Unit]) -> list[Candidate]:
        """Units that are not kept in any index, priced for this decision alone."""
        return await asyncio.to_thread(lambda: [candidate(u, self._price) for u in units])

    async def decide(
        self,
        name: str,
        candidates: Sequence[Candidate],
        query: str,
        budget: int,
        known: Mapping[str, SummaryNode],
    ) -> PolicyOutcome:
        """Decide on `candidates` for `budget` tokens; `known` are summary nodes to take
        again.

        Raises UnknownPolicy. Everything else that can fail falls back.
        """
        policy = self.policies.get(name)
        task = CompactionTask(candidates, query, max(budget, 0))
        fell_back, deadline = "", asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline):
                decisions = await policy.decide(task)
        except (TimeoutError, PolicyFailed) as error:
            fell_back = str(error) or f"{name} took longer than {self._seconds:g} s"
            policy = Bm25Policy()
            decisions = await policy.decide(task)
        decisions = _within_budget(task, Decisions.of(decisions))
        summarised = decisions.places(Action.SUMMARISE)
        nodes: list[SummaryNode] = []
        if summarised:
            units = _Units(task.candidates, summarised)
            log = task.log
            made = (log.table.written, log.rows[summarised], log.tokens[summarised])
            available = task.budget - spent(task, decisions)
            try:
                async with asyncio.timeout_at(deadline):
                    nodes = await build_summaries(
                        units, available, self._price, self._summarise, known, made
                    )
            except TimeoutError:
                fell_back = (
                    f"the summaries took longer than {self._seconds:g} s: lines picked instead"
                )
                nodes = await build_summaries(units, available, self._price, None, known)
        if not nodes:
            decisions = decisions.dropped(summarised, "no room for a summary")
        return PolicyOutcome(policy.name, fell_back, task, decisions, nodes)


def _within_budget(task: CompactionTask, decisions: Decisions) -> Decisions:
    """The decisions, with units of the lowest scores dropped until the rest fit the budget."""
    paid = costs(task, decisions)
    over = int(paid.sum()) - task.budget
    if over <= 0:
        return decisions
    paying = np.flatnonzero(paid)
    worst = paying[np.argsort(decisions.scores[paying], kind="stable")]
    gone = int(np.searchsorted(np.cumsum(paid[worst]), over)) + 1
    return decisions.dropped(worst[:gone], "over the budget")
