"""Running a compaction policy by name: a time limit, the budget enforced, summaries written.

When a policy takes too long or lacks the served model, BM25 decides instead and the outcome says
so. A policy that overspends loses its units of lowest score.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policies.base import (
    Candidate,
    CompactionTask,
    Decision,
    candidate,
    spent,
)
from burnish.memory.compaction.policies.bm25 import Bm25Policy
from burnish.memory.compaction.policies.learned import SampledDecisions
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
    decisions: Sequence[Decision]
    nodes: Sequence[SummaryNode]
    trace: str = ""  # how a learned policy sampled the decisions, see policies/learned.py

    @property
    def tokens(self) -> int:
        return spent(self.task, self.decisions) + sum(node.tokens for node in self.nodes)

    @property
    def pairs(self) -> list[tuple[Candidate, Decision]]:
        return list(zip(self.task.candidates, self.decisions, strict=True))

    @property
    def shown(self) -> tuple[ShownUnit, ...]:
        return tuple(
            ShownUnit(c.unit.first, d.action, round(d.score, 4))
            for c, d in self.pairs
            if d.action in SHOWN_ACTIONS
        )

    @property
    def unit_decisions(self) -> list[UnitDecision]:
        return [
            UnitDecision(c.unit.first, c.tokens, d.action, round(d.score, 4), d.why)
            for c, d in self.pairs
        ]


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

    async def decide(
        self,
        name: str,
        units: Sequence[Unit],
        query: str,
        budget: int,
        known: Mapping[str, SummaryNode],
    ) -> PolicyOutcome:
        """Decide on `units` for `budget` tokens; `known` are summary nodes to take again.

        Raises UnknownPolicy. Everything else that can fail falls back.
        """
        policy = self.policies.get(name)
        priced = await asyncio.to_thread(lambda: [candidate(u, self._price) for u in units])
        task = CompactionTask(priced, query, max(budget, 0))
        fell_back, deadline = "", asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline):
                decisions = await policy.decide(task)
        except (TimeoutError, PolicyFailed) as error:
            fell_back = str(error) or f"{name} took longer than {self._seconds:g} s"
            policy = Bm25Policy()
            decisions = await policy.decide(task)
        trace = decisions.trace.pack() if isinstance(decisions, SampledDecisions) else ""
        decisions = _within_budget(task, decisions)
        summarised = [
            c.unit for c, d in zip(priced, decisions, strict=True) if d.action is Action.SUMMARISE
        ]
        available = task.budget - spent(task, decisions)
        nodes: list[SummaryNode] = []
        if summarised:
            try:
                async with asyncio.timeout_at(deadline):
                    nodes = await build_summaries(
                        summarised, available, self._price, self._summarise, known
                    )
            except TimeoutError:
                fell_back = (
                    f"the summaries took longer than {self._seconds:g} s: lines picked instead"
                )
                nodes = await build_summaries(summarised, available, self._price, None, known)
        decisions = _dropped_without_nodes(decisions, nodes)
        return PolicyOutcome(policy.name, fell_back, task, decisions, nodes, trace)


def _within_budget(task: CompactionTask, decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions, with units of the lowest scores dropped until the rest fit the budget."""
    fitted = list(decisions)
    over = spent(task, fitted) - task.budget
    for place in sorted(range(len(fitted)), key=lambda place: fitted[place].score):
        if over <= 0:
            break
        cost = task.candidates[place].cost(fitted[place].action)
        if cost:
            fitted[place] = replace(fitted[place], action=Action.DROP, why="over the budget")
            over -= cost
    return fitted


def _dropped_without_nodes(
    decisions: Sequence[Decision], nodes: Sequence[SummaryNode]
) -> list[Decision]:
    """Where no node could be written, the units it should have summarised are dropped."""
    if nodes:
        return list(decisions)
    return [
        replace(d, action=Action.DROP, why="no room for a summary")
        if d.action is Action.SUMMARISE
        else d
        for d in decisions
    ]
