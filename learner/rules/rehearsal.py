"""Rehearsal: verifiable tasks in every step, so that optimising for feedback keeps the skills.

A group of rollouts that are all right or all wrong has no gradient, so each (family, level) keeps a
running success rate and is drawn the more often the closer that is to one half; harder levels come
up by themselves as easier ones are solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.training.prompts import fitting
from burnish.learner.training.rollouts import Rollout

DECAY = 0.9  # of the running success rate, per group


class Rehearsal:
    """Draws tasks of `source` by how much they still teach, and grades the answers to them."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.source = TaskSource()
        self.rates: dict[str, float] = dict((state or {}).get("rates", {}))

    def state_dict(self) -> dict[str, Any]:
        """The success rates by `family/level`, as JSON."""
        return {"rates": {key: round(rate, 4) for key, rate in self.rates.items()}}

    def draw(self, rng: Random, count: int, model: LoadedModel, max_tokens: int) -> list[Task]:
        """At most `count` training tasks, families and levels weighted by how much they still teach.

        Those whose prompt leaves less than `max_tokens` for an answer are drawn again.
        """
        pools = self.source.pools
        drawn: list[Task] = []
        while pools and len(drawn) < count:
            family, level = rng.choices(pools, [self._weight(*pool) for pool in pools])[0]
            tasks = self.source.draw(rng, family, "train", level)
            task = next(fitting(model, self.source, tasks, max_tokens), None)
            if task is None:
                pools.remove((family, level))
            else:
                drawn.append(task)
        return drawn

    def grade(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[Rollout], float]:
        """A right and a wrong rollout of each group that has both, and the share right of all.

        The pair stands for its group and carries the group's whole weight, which is largest when
        half of it is right. A group whose checker fails is dropped.
        """
        kept: list[Rollout] = []
        verdicts: list[float] = []
        for task, group in zip(tasks, groups, strict=True):
            try:
                right = [float(task.is_correct(rollout.text)) for rollout in group]
            except CheckFailed as error:
                self.source.note(str(error))
                continue
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
