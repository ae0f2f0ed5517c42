"""One question on one world as a task for a policy, and what the reader makes of the decisions.

The floor (system and task steps) is in every view. Views are drawn as the store draws them: what
is kept or shortened stands in the order of the log. Tokens are what the view costs, floor included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from burnish.learner.compactor import reader
from burnish.learner.compactor.logs import OVERHEAD, Count, Question, World, rough_count
from burnish.memory.compaction.policies.base import Candidate, Decision, Task, candidate
from burnish.memory.sessions.plan import Verdict
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import clear, shorten


@dataclass(frozen=True)
class Arena:
    """A world cut into floor and candidates, priced once."""

    world: World
    count: Count = rough_count

    @cached_property
    def floor(self) -> list[Step]:
        return [step for step in self.world.steps if step.pin_reason]

    @cached_property
    def candidates(self) -> list[Candidate]:
        results: dict[int, list[Step]] = {}
        for step in self.world.steps:
            if step.group:
                results.setdefault(step.group, []).append(step)
        return [
            candidate(Unit((step, *results.get(step.seq, ()))), self.price)
            for step in self.world.steps
            if not step.pin_reason and not step.group
        ]

    def price(self, text: str) -> int:
        return self.count(text) + OVERHEAD

    def task(self, question: Question, share: float) -> Task:
        """`share` of the log's tokens for the whole view."""
        room = int(share * self.world.tokens) - sum(step.tokens for step in self.floor)
        return Task(self.candidates, question.text, max(room, 0))

    def messages(self, decisions: Sequence[Decision]) -> list[Mapping[str, Any]]:
        steps = list(self.floor)
        for chosen, decision in zip(self.candidates, decisions, strict=True):
            steps += shown(chosen.unit, decision.verdict)
        steps.sort(key=lambda step: step.seq)
        return [{**step.message(), "cursors": [step.cursor]} for step in steps]

    def right(self, question: Question, decisions: Sequence[Decision]) -> bool:
        return reader.answer(question.text, self.messages(decisions)) == question.answer

    def tokens(self, decisions: Sequence[Decision]) -> int:
        """Of the whole view."""
        kept = zip(self.candidates, decisions, strict=True)
        return sum(step.tokens for step in self.floor) + sum(c.cost(d.verdict) for c, d in kept)


def shown(unit: Unit, verdict: Verdict) -> list[Step]:
    """The steps of a unit as a view shows them under this verdict."""
    match verdict:
        case Verdict.KEEP:
            return list(unit.steps)
        case Verdict.SHORTEN:
            return [shorten(step) for step in unit.steps]
        case Verdict.CLEAR:
            return [clear(step) for step in unit.steps]
        case _:
            return []


def labels(arena: Arena, question: Question) -> list[Verdict]:
    """Leave-one-out: what each unit must at least be, the rest of the log being there in full.

    A unit whose absence changes the answer is kept, or shortened where that leaves the answer as
    it is. Of a fact stated twice neither statement is missed; such labels are a start, not truth.
    """
    said = {c.unit.first: _said(c.unit.steps) for c in arena.candidates}
    everything = _flat(said)
    right = reader.answer_from(question.text, everything)
    found: list[Verdict] = []
    for chosen in arena.candidates:
        first, verdict = chosen.unit.first, Verdict.DROP
        if said[first] and reader.answer_from(question.text, _flat({**said, first: []})) != right:
            short = _said(shown(chosen.unit, Verdict.SHORTEN))
            enough = reader.answer_from(question.text, _flat({**said, first: short})) == right
            verdict = Verdict.SHORTEN if enough and chosen.short < chosen.tokens else Verdict.KEEP
        found.append(verdict)
    return found


def _said(steps: Sequence[Step]) -> list[reader.Fact]:
    return [fact for step in steps for fact in reader.parse(step.content)]


def _flat(said: Mapping[int, list[reader.Fact]]) -> list[reader.Fact]:
    return [fact for facts in said.values() for fact in facts]
