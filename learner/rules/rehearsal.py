"""Rehearsal: verifiable tasks in every step, so that optimising for feedback keeps the skills.

A group of rollouts that are all right or all wrong has no gradient, so each (family, level) keeps a
running success rate and is drawn the more often the closer that is to one half; harder levels come
up by themselves as easier ones are solved. Left out: drawing from reasoning-gym.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import FAMILIES, Task, is_correct, sample
from burnish.learner.training.prompts import fits
from burnish.learner.training.rollouts import Rollout

LEVELS = (1, 2, 3)
DECAY = 0.9  # of the running success rate, per group


class Rehearsal:
    """Draws tasks by how much they still teach, and grades the answers to them."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.rates: dict[str, float] = dict((state or {}).get("rates", {}))

    def state_dict(self) -> dict[str, Any]:
        """The success rates by `family/level`, as JSON."""
        return {"rates": {key: round(rate, 4) for key, rate in self.rates.items()}}

    def draw(self, rng: Random, count: int, model: LoadedModel, max_tokens: int) -> list[Task]:
        """`count` training tasks, families and levels weighted by how much they still teach.

        Those whose prompt leaves less than `max_tokens` for an answer are drawn again.
        """
        pools = [(family, level) for family in FAMILIES for level in LEVELS]
        weights = [self._weight(family, level) for family, level in pools]
        drawn: list[Task] = []
        while len(drawn) < count:
            family, level = rng.choices(pools, weights)[0]
            task = sample(rng, family, "train", level)
            if fits(model, task, max_tokens):
                drawn.append(task)
        return drawn

    def grade(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[Rollout], float]:
        """A right and a wrong rollout of each group that has both, and the share right of all.

        The pair stands for its group and carries the group's whole weight, which is largest when
        half of it is right.
        """
        kept: list[Rollout] = []
        verdicts: list[float] = []
        for task, group in zip(tasks, groups, strict=True):
            right = [float(is_correct(task, rollout.text)) for rollout in group]
            verdicts.extend(right)
            self._record(task, sum(right) / len(right))
            weight = sum(right) * (len(right) - sum(right)) / (len(right) - 1)
            if weight:
                kept.append(group[right.index(1.0)].with_advantage(weight))
                kept.append(group[right.index(0.0)].with_advantage(-weight))
        return kept, sum(verdicts) / len(verdicts) if verdicts else 0.0

    def _weight(self, family: str, level: int) -> float:
        # The chance that a group has right and wrong ones grows with p(1 - p); the constant keeps
        # every pool in use.
        rate = self.rates.get(f"{family}/{level}", 0.7 if level == 1 else 0.5)
        return 0.1 + 4 * rate * (1 - rate) if rate > 0.02 else 0.05

    def _record(self, task: Task, rate: float) -> None:
        key = f"{task.family}/{task.level}"
        old = self.rates.get(key)
        self.rates[key] = rate if old is None else DECAY * old + (1 - DECAY) * rate
