"""Examples for training: questions on worlds as features, budgets, labels, and a quick referee.

The referee reads only facts of what is picked, as the reader does from a view, without drawing the
view each time; tests hold the two to the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np
from burnish.learner.compactor import reader
from burnish.learner.compactor.episodes import Arena, labels, shown
from burnish.learner.compactor.logs import Question
from burnish.learner.compactor.worlds import HORIZON, make_world
from burnish.memory.compaction.features import Features, Index
from burnish.memory.compaction.policies.base import Task
from burnish.memory.compaction.scorer import CHOICES, DROP, Scorer, picked
from burnish.memory.sessions.plan import Verdict

LEAST, MOST = 0.02, 0.5  # share of the log's tokens that an episode's view may cost
Facts = Sequence[reader.Fact]


@dataclass(frozen=True)
class Example:
    """One question at one budget."""

    question: Question
    task: Task
    looks: Sequence[Features]
    labels: Sequence[np.ndarray]  # per look: [n] indexes CHOICES, by leave-one-out
    said: Mapping[tuple[int, Verdict], Facts]  # (place among candidates, verdict) -> facts
    log_tokens: int

    @property
    def features(self) -> Features:
        """The last look, which is decided on."""
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
        """(answered rightly, share of the log's tokens kept) for picks alone, nothing filled up."""
        verdicts, left = picked(self.task, self.features, wanted, order_by)
        return self.right(verdicts), (self.task.budget - left) / self.log_tokens

    def right(self, verdicts: Mapping[int, Verdict]) -> bool:
        kept = sorted(item for item in verdicts.items() if item[1] != Verdict.DROP)
        facts = [fact for item in kept for fact in self.said.get(item, ())]
        return reader.answer_from(self.question.text, facts) == self.question.answer


def examples(
    scorer: Scorer,
    seed: int,
    split: str = "train",
    horizon: int | None = None,
    questions: int = 12,
) -> Iterator[Example]:
    """Every question of one world, each at a budget drawn evenly on a logarithmic scale.

    `scorer` leads the looks, so what is learnt from is what it would see.
    """
    rng = Random(f"practice/{split}/{seed}")
    horizon = horizon or rng.randrange(HORIZON // 3, HORIZON + 1)
    arena = Arena(make_world(seed, split, horizon=horizon, questions=questions))
    log = Index.of(arena.candidates)
    said = facts_of(arena)
    for question in arena.world.questions:
        share = float(np.exp(rng.uniform(np.log(LEAST), np.log(MOST))))
        task = arena.task(question, share)
        looks = scorer.look(task, log)
        wanted = labels(arena, question)
        yield Example(
            question,
            task,
            looks,
            [np.array([_index(wanted[place]) for place in look.chosen]) for look in looks],
            said,
            arena.world.tokens,
        )


def facts_of(arena: Arena) -> dict[tuple[int, Verdict], Facts]:
    """What every candidate says in each form, where it says anything."""
    said = {}
    for place, candidate in enumerate(arena.candidates):
        for verdict in CHOICES:
            steps = shown(candidate.unit, verdict)
            facts = [fact for step in steps for fact in reader.parse(step.content)]
            if facts:
                said[place, verdict] = facts
    return said


def _index(verdict: Verdict) -> int:
    return CHOICES.index(verdict) if verdict in CHOICES else DROP
