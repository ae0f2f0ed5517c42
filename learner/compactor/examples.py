"""Training examples: questions on worlds as features, budgets and labels, and a fast reward.

The reward reads the facts of the picked units without building a view each time; tests hold it to
what the reader answers from the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np
from burnish.learner.compactor import reader
from burnish.learner.compactor.environment import Environment, leave_one_out, shown_steps
from burnish.learner.compactor.world import WorldQuestion
from burnish.learner.compactor.world_generator import HORIZON, make_world
from burnish.memory.compaction import (
    CHOICES,
    DROP,
    Action,
    CompactionTask,
    Features,
    PassageIndex,
    Scorer,
    pick_within_budget,
)

MIN_SHARE, MAX_SHARE = 0.02, 0.5  # share of the log's tokens that an episode's view may cost
Facts = Sequence[reader.ParsedFact]


@dataclass(frozen=True)
class TrainingExample:
    """One question at one budget."""

    question: WorldQuestion
    task: CompactionTask
    looks: Sequence[Features]
    labels: Sequence[np.ndarray]  # per look: [n] indexes CHOICES, by leave-one-out
    facts: Mapping[tuple[int, Action], Facts]  # (place among candidates, action) -> facts
    log_tokens: int

    @property
    def features(self) -> Features:
        """Those of the last look, which is decided on."""
        return self.looks[-1]

    @cached_property
    def feasible(self) -> bool:
        """Whether what the labels want fits the budget at all."""
        cost = sum(
            self.task.candidates[place].cost(CHOICES[label])
            for place, label in zip(self.features.chosen, self.labels[-1], strict=True)
        )
        return cost <= self.task.budget

    def outcome(self, wanted: np.ndarray, order_by: np.ndarray) -> tuple[bool, float]:
        """(answered rightly, share of the log's tokens kept) of the picks alone, spare tokens unused."""
        actions, left = pick_within_budget(self.task, self.features, wanted, order_by)
        return self.is_correct(actions), (self.task.budget - left) / self.log_tokens

    def is_correct(self, actions: Mapping[int, Action]) -> bool:
        """Whether the reader answers rightly from what these actions show."""
        kept = sorted(item for item in actions.items() if item[1] != Action.DROP)
        facts = [fact for item in kept for fact in self.facts.get(item, ())]
        return reader.answer_from(self.question.text, facts) == self.question.answer


def make_examples(
    scorer: Scorer,
    seed: int,
    split: str = "train",
    horizon: int | None = None,
    questions: int = 12,
) -> Iterator[TrainingExample]:
    """Every question of one world, each at a budget drawn evenly on a logarithmic scale.

    `scorer` makes the looks, so the examples show what it would see.
    """
    rng = Random(f"practice/{split}/{seed}")
    horizon = horizon or rng.randrange(HORIZON // 3, HORIZON + 1)
    environment = Environment(make_world(seed, split, horizon=horizon, questions=questions))
    log = PassageIndex.of(environment.candidates)
    facts = facts_by_action(environment)
    for question in environment.world.questions:
        share = float(np.exp(rng.uniform(np.log(MIN_SHARE), np.log(MAX_SHARE))))
        task = environment.task(question, share)
        looks = scorer.look(task, log)
        labels = leave_one_out(environment, question)
        yield TrainingExample(
            question,
            task,
            looks,
            [np.array([_index(labels[place]) for place in look.chosen]) for look in looks],
            facts,
            environment.world.tokens,
        )


def facts_by_action(environment: Environment) -> dict[tuple[int, Action], Facts]:
    """The facts every candidate states in each form, where it states any."""
    stated = {}
    for place, candidate in enumerate(environment.candidates):
        for action in CHOICES:
            steps = shown_steps(candidate.unit, action)
            facts = [fact for step in steps for fact in reader.parse(step.content)]
            if facts:
                stated[place, action] = facts
    return stated


def _index(action: Action) -> int:
    return CHOICES.index(action) if action in CHOICES else DROP
