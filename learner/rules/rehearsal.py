"""Rehearsal: verifiable tasks in every step, so that learning to please does not eat the skills.

A family that is solved teaches nothing (all four answers right: no difference to learn from), so
each (family, level) keeps a running rate and is drawn the more often the closer it is to a coin
flip; that brings up harder levels by itself. Left out: asking reasoning-gym for more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import FAMILIES, Task, is_correct, sample
from burnish.learner.training.trainer import Answer, fits

LEVELS = (1, 2, 3)
MEMORY = 0.9  # share of the running rate that one more group leaves standing


class Rehearsal:
    """Draws tasks by how much they teach and judges the answers to them."""

    def __init__(self, notes: Mapping[str, Any] | None = None) -> None:
        self.rates: dict[str, float] = dict((notes or {}).get("rates", {}))

    def notes(self) -> dict[str, Any]:
        return {"rates": {key: round(rate, 4) for key, rate in self.rates.items()}}

    def draw(self, rng: Random, count: int, model: LoadedModel, room: int) -> list[Task]:
        """`count` training tasks, families and levels weighted by how much they still teach.

        Those whose prompt leaves less than `room` tokens for an answer are drawn again.
        """
        pools = [(family, level) for family in FAMILIES for level in LEVELS]
        weights = [self._weight(family, level) for family, level in pools]
        drawn: list[Task] = []
        while len(drawn) < count:
            family, level = rng.choices(pools, weights)[0]
            task = sample(rng, family, "train", level)
            if fits(model, task, room):
                drawn.append(task)
        return drawn

    def judge(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Answer]]
    ) -> tuple[list[Answer], float]:
        """A right and a wrong answer of each group that has both, and the share right.

        The pair stands for its group: it carries the group's whole weight, which is largest when
        half of it is right.
        """
        kept: list[Answer] = []
        right_of = []
        for task, group in zip(tasks, groups, strict=True):
            right = [float(is_correct(task, answer.text)) for answer in group]
            right_of.extend(right)
            self._remember(task, sum(right) / len(right))
            weight = sum(right) * (len(right) - sum(right)) / (len(right) - 1)
            kept += [
                a.with_advantage(v * weight) for a, v in zip(*_pair(group, right), strict=True)
            ]
        return kept, sum(right_of) / len(right_of) if right_of else 0.0

    def _weight(self, family: str, level: int) -> float:
        # A group of four differs with a chance near p(1-p); the rest keeps every pool in sight.
        rate = self.rates.get(f"{family}/{level}", 0.7 if level == 1 else 0.5)
        return 0.1 + 4 * rate * (1 - rate) if rate > 0.02 else 0.05

    def _remember(self, task: Task, rate: float) -> None:
        key = f"{task.family}/{task.level}"
        old = self.rates.get(key)
        self.rates[key] = rate if old is None else MEMORY * old + (1 - MEMORY) * rate


def _pair(group: Sequence[Answer], right: Sequence[float]) -> tuple[list[Answer], list[float]]:
    if len(set(right)) < 2:
        return [], []
    return [group[right.index(1.0)], group[right.index(0.0)]], [1.0, -1.0]
