"""Training examples: questions on worlds as features, budgets and labels, and a fast reward.

The reward reads the facts of the picked units without building a view each time; tests hold it to
what the reader answers from the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from burnish.learner.compactor import reader
from burnish.learner.compactor.environment import Environment, leave_one_out, shown_steps
from burnish.learner.compactor.link_worlds import make_links
from burnish.learner.compactor.talk_worlds import make_talk
from burnish.learner.compactor.world import WorldQuestion
from burnish.learner.compactor.world_generator import HORIZON, make_world
from burnish.memory.compaction import (
    CHOICES,
    DROP,
    KEEP,
    Action,
    CompactionTask,
    Features,
    Scorer,
    pick_within_budget,
)
from burnish.memory.compaction.features import SHORT_LIST

MIN_SHARE, MAX_SHARE = 0.02, 0.5  # share of the log's tokens that an episode's view may cost
LONGER, LONGEST = 0.4, 8  # of the worlds are longer than HORIZON; times as long at most
NARROW, NARROWEST = 0.6, 24  # of the short lists are cut; to so few candidates at least
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

    @property
    def feasible(self) -> bool:
        """Whether what the labels want fits the budget at all."""
        cost = sum(
            self.task.candidates[place].cost(CHOICES[label])
            for place, label in zip(self.features.chosen, self.labels[-1], strict=True)
        )
        return cost <= self.task.budget

    def outcome(self, wanted: np.ndarray, order_by: np.ndarray) -> tuple[float, float]:
        """(credit, share of the log's tokens kept) of the picks alone, spare tokens unused."""
        actions, left = pick_within_budget(self.task, self.features, wanted, order_by)
        return self.credit(actions), (self.task.budget - left) / self.log_tokens

    def credit(self, actions: Mapping[int, Action]) -> float:
        """1 where the question is answered rightly, else 0."""
        return float(self.is_correct(actions))

    def is_correct(self, actions: Mapping[int, Action]) -> bool:
        """Whether the reader answers rightly from what these actions show."""
        kept = sorted(item for item in actions.items() if item[1] != Action.DROP)
        facts = [fact for item in kept for fact in self.facts.get(item, ())]
        return reader.answer_from(self.question.text, facts) == self.question.answer


@dataclass(frozen=True)
class EvidenceExample(TrainingExample):
    """One question on text that no reader of ours understands: what is kept of the evidence counts."""

    evidence: frozenset[int] = frozenset()  # places among the candidates

    @property
    def feasible(self) -> bool:
        """Never: the score at which tokens may be saved is that of questions that are answered."""
        return False

    def credit(self, actions: Mapping[int, Action]) -> float:
        """The share of the evidence that is shown whole."""
        whole = {place for place, action in actions.items() if action is Action.KEEP}
        return len(whole & self.evidence) / max(len(self.evidence), 1)


def make_evidence_examples(
    scorer: Scorer, seed: int, kind: str, questions: int = 12
) -> Iterator[EvidenceExample]:
    """As `make_examples`, of one world of talk (talk_worlds.py) or of links (link_worlds.py)."""
    rng = Random(f"practice/{kind}/{seed}")
    world = make_links(seed) if kind == "links" else make_talk(seed, kind, questions=questions)
    environment, most = Environment(world), _short_list(rng)
    by_step = {
        step.seq: place
        for place, candidate in enumerate(environment.candidates)
        for step in candidate.unit.steps
    }
    for question in environment.world.questions:
        task = environment.task(question, _share(rng))
        looks = scorer.look(task, most)
        # What the floor shows needs no decision.
        evidence = frozenset(by_step[seq] for seq in question.evidence if seq in by_step)
        labels = [
            np.array([KEEP if place in evidence else DROP for place in look.chosen.tolist()])
            for look in looks
        ]
        tokens = environment.world.tokens
        yield EvidenceExample(question, task, looks, labels, {}, tokens, evidence)


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
    horizon, most = horizon or _horizon(rng), _short_list(rng)
    environment = Environment(make_world(seed, split, horizon=horizon, questions=questions))
    facts = facts_by_action(environment)
    for question in environment.world.questions:
        task = environment.task(question, _share(rng))
        looks = scorer.look(task, most)
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


def _horizon(rng: Random) -> int:
    """Of a world: often longer than what its questions are made for, as real logs are."""
    if rng.random() < LONGER:
        return int(HORIZON * np.exp(rng.uniform(0.0, np.log(LONGEST))))
    return rng.randrange(HORIZON // 3, HORIZON + 1)


def _short_list(rng: Random) -> int:
    """Candidates looked at: often few of a log, as of one that is far longer."""
    if rng.random() < NARROW:
        return int(np.exp(rng.uniform(np.log(NARROWEST), np.log(SHORT_LIST))))
    return SHORT_LIST


def _share(rng: Random) -> float:
    return float(np.exp(rng.uniform(np.log(MIN_SHARE), np.log(MAX_SHARE))))


def _index(action: Action) -> int:
    return CHOICES.index(action) if action in CHOICES else DROP
