"""From a policy's name to what is shown: decided in time, held to the budget, summaries written.

A policy that takes too long or lacks the served model is not waited for: BM25 decides instead, and
the result says so. What a policy overspends is taken from its lowest scores.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from burnish.memory.compaction.policies import Policies
from burnish.memory.compaction.policies.base import Candidate, Decision, Task, candidate, spent
from burnish.memory.compaction.policies.bm25 import Bm25
from burnish.memory.compaction.policies.learned import Traced
from burnish.memory.compaction.summaries import Summariser, build
from burnish.memory.errors import PolicyFailed
from burnish.memory.sessions.plan import SHOWN, Ruling, Shown, Verdict
from burnish.memory.sessions.units import Unit
from burnish.memory.sessions.vectors import Vectors
from burnish.memory.views.forms import Price
from burnish.memory.views.view import Node


@dataclass(frozen=True)
class PolicyOutcome:
    policy: str
    fell_back: str  # why not the policy asked for, or ""
    task: Task
    decisions: Sequence[Decision]
    nodes: Sequence[Node]
    trace: str = ""  # how a learned policy drew the decisions, see policies/learned.py

    @property
    def tokens(self) -> int:
        return spent(self.task, self.decisions) + sum(node.tokens for node in self.nodes)

    @property
    def pairs(self) -> list[tuple[Candidate, Decision]]:
        return list(zip(self.task.candidates, self.decisions, strict=True))

    @property
    def shown(self) -> tuple[Shown, ...]:
        return tuple(
            Shown(c.unit.first, d.verdict, round(d.score, 4))
            for c, d in self.pairs
            if d.verdict in SHOWN
        )

    @property
    def rulings(self) -> list[Ruling]:
        return [
            Ruling(c.unit.first, c.tokens, d.verdict, round(d.score, 4), d.why)
            for c, d in self.pairs
        ]


class PolicyRunner:
    """The policies there are, the summariser if there is one, and the time they may take."""

    def __init__(
        self,
        policies: Policies,
        price: Price,
        summarise: Summariser | None = None,
        *,
        seconds: float = 20.0,
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
        known: Mapping[str, Node],
        vectors: Vectors | None = None,
    ) -> PolicyOutcome:
        """Raises UnknownPolicy. Everything else that can fail falls back."""
        policy = self.policies.get(name)
        priced = await asyncio.to_thread(lambda: [candidate(u, self._price) for u in units])
        task = Task(priced, query, max(budget, 0), vectors.of if vectors else None)
        why, until = "", asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(until):
                decisions = await policy.decide(task)
        except (TimeoutError, PolicyFailed) as error:
            why = str(error) or f"{name} took longer than {self._seconds:g} s"
            policy = Bm25()
            decisions = await policy.decide(task)
        trace = decisions.trace.pack() if isinstance(decisions, Traced) else ""
        decisions = _held(task, decisions)
        behind = [
            c.unit for c, d in zip(priced, decisions, strict=True) if d.verdict is Verdict.SUMMARISE
        ]
        room = task.budget - spent(task, decisions)
        nodes: list[Node] = []
        if behind:
            try:
                async with asyncio.timeout_at(until):
                    nodes = await build(behind, room, self._price, self._summarise, known)
            except TimeoutError:
                why = f"the summaries took longer than {self._seconds:g} s: lines picked instead"
                nodes = await build(behind, room, self._price, None, known)
        return PolicyOutcome(policy.name, why, task, _told(priced, decisions, nodes), nodes, trace)


def _held(task: Task, decisions: Sequence[Decision]) -> list[Decision]:
    """Within the budget, whatever the policy said."""
    held = list(decisions)
    over = spent(task, held) - task.budget
    for place in sorted(range(len(held)), key=lambda place: held[place].score):
        if over <= 0:
            break
        cost = task.candidates[place].cost(held[place].verdict)
        if cost:
            held[place] = replace(held[place], verdict=Verdict.DROP, why="over the budget")
            over -= cost
    return held


def _told(
    candidates: Sequence[Candidate], decisions: Sequence[Decision], nodes: Sequence[Node]
) -> list[Decision]:
    """Where no node could be written, what was to stand behind it is dropped, and is said to be."""
    if nodes:
        return list(decisions)
    return [
        replace(d, verdict=Verdict.DROP, why="no room for a summary")
        if d.verdict is Verdict.SUMMARISE
        else d
        for d in decisions
    ]
