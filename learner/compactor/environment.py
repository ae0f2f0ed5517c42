"""The environment a compaction policy is trained and measured in: tasks from a world, views from
its decisions, and labels.

The floor (system and task steps) is in every view. Views are built as the store builds them: what
is kept or shortened stands in the order of the log. Tokens are what the view costs, floor included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from burnish.learner.compactor import reader
from burnish.learner.compactor.world import OVERHEAD, Count, World, WorldQuestion, rough_count
from burnish.memory import Step, Unit, clear, shorten
from burnish.memory.compaction import (
    Action,
    Candidates,
    CompactionTask,
    Decision,
    candidate,
    candidates_of,
)


@dataclass(frozen=True)
class Environment:
    """A world split into floor and candidates, priced once."""

    world: World
    count: Count = rough_count

    @cached_property
    def floor(self) -> list[Step]:
        return [step for step in self.world.steps if step.pin_reason]

    @cached_property
    def candidates(self) -> Candidates:
        results: dict[int, list[Step]] = {}
        for step in self.world.steps:
            if step.group:
                results.setdefault(step.group, []).append(step)
        return candidates_of(
            [
                candidate(Unit((step, *results.get(step.seq, ()))), self.price)
                for step in self.world.steps
                if not step.pin_reason and not step.group
            ]
        )

    def price(self, text: str) -> int:
        return self.count(text) + OVERHEAD

    def task(self, question: WorldQuestion, share: float) -> CompactionTask:
        """The question at a budget of `share` of the log's tokens for the whole view."""
        available = int(share * self.world.tokens) - sum(step.tokens for step in self.floor)
        return CompactionTask(self.candidates, question.text, max(available, 0))

    def messages(self, decisions: Sequence[Decision]) -> list[Mapping[str, Any]]:
        """The view that these decisions give."""
        steps = list(self.floor)
        for chosen, decision in zip(self.candidates, decisions, strict=True):
            steps += shown_steps(chosen.unit, decision.action)
        steps.sort(key=lambda step: step.seq)
        return [{**step.message(), "cursors": [step.cursor]} for step in steps]

    def is_correct(self, question: WorldQuestion, decisions: Sequence[Decision]) -> bool:
        """Whether the reader answers rightly from that view."""
        return reader.answer(question.text, self.messages(decisions)) == question.answer

    def tokens(self, decisions: Sequence[Decision]) -> int:
        """Of the whole view."""
        pairs = zip(self.candidates, decisions, strict=True)
        return sum(step.tokens for step in self.floor) + sum(c.cost(d.action) for c, d in pairs)


def shown_steps(unit: Unit, action: Action) -> list[Step]:
    """The steps of a unit as a view shows them under this action."""
    match action:
        case Action.KEEP:
            return list(unit.steps)
        case Action.SHORTEN:
            return [shorten(step) for step in unit.steps]
        case Action.CLEAR:
            return [clear(step) for step in unit.steps]
        case _:
            return []


def leave_one_out(environment: Environment, question: WorldQuestion) -> list[Action]:
    """Leave-one-out labels: the least that each unit must be, the rest of the log being whole.

    A unit whose absence changes the answer is kept, or shortened where that leaves the answer as
    it is. A fact that is stated twice is labelled drop both times, so labels only initialise
    training; reward corrects them.
    """
    facts = {c.unit.first: _facts(c.unit.steps) for c in environment.candidates}
    everything = _flat(facts)
    expected = reader.answer_from(question.text, everything)
    labels: list[Action] = []
    for chosen in environment.candidates:
        first, action = chosen.unit.first, Action.DROP
        if (
            facts[first]
            and reader.answer_from(question.text, _flat({**facts, first: []})) != expected
        ):
            short = _facts(shown_steps(chosen.unit, Action.SHORTEN))
            suffices = reader.answer_from(question.text, _flat({**facts, first: short})) == expected
            action = Action.SHORTEN if suffices and chosen.short < chosen.tokens else Action.KEEP
        labels.append(action)
    return labels


def _facts(steps: Sequence[Step]) -> list[reader.ParsedFact]:
    return [fact for step in steps for fact in reader.parse(step.content)]


def _flat(facts: Mapping[int, list[reader.ParsedFact]]) -> list[reader.ParsedFact]:
    return [fact for stated in facts.values() for fact in stated]
