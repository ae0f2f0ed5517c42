"""The one interface of update rules: what a tick hands to a rule, and what it wants back.

A rule decides *which answers* to learn from and *how good each was*; the trainee turns that into
optimiser steps, the same way for every rule. A new rule is one file with this one class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from burnish.learner.database import LearnerError
from burnish.learner.reward.experience import Experience
from burnish.learner.training.trainer import Answer, PolicyTrainer
from torch import Tensor


class NothingToLearn(LearnerError):
    """The experience is there but says nothing; the message tells people why."""


@dataclass(frozen=True)
class Lesson:
    """What a tick has to learn from. `features` [N, F] is the base's view of the N experiences."""

    experience: Sequence[Experience]
    features: Tensor
    prompts: Sequence[tuple[int, ...]]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """How much one step samples, and which reward model judges it."""

    answers: int = 96
    samples: int = 4
    max_tokens: int = 64
    rehearsal: float = 0.5  # share of the prompts that are verifiable tasks
    reward_model: str = "process"


@dataclass(frozen=True)
class Batch:
    """Answers with advantages for one step; no answers at all end the update."""

    answers: Sequence[Answer]
    figures: Mapping[str, float]


class UpdateRule(Protocol):
    """Made fresh for each update; `tensors` and `notes` carry over from the parent's checkpoint."""

    def prepare(self, trainee: PolicyTrainer, lesson: Lesson, seed: int) -> Mapping[str, float]:
        """Fit what the rule needs before the first step. Raises NothingToLearn."""
        ...

    def batch(self, trainee: PolicyTrainer, step: int, seed: int) -> Batch:
        """What to learn from in this step; a function of its arguments, so that it can be resumed."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What the next update's rule starts from, tensors."""
        ...

    def notes(self) -> dict[str, Any]:
        """And the rest of it, as JSON."""
        ...


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """Each reward minus the mean of the others in its group."""
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]


def extremes(group: Sequence[Answer], rewards: Sequence[float]) -> list[Answer]:
    """The best and the worst of a group, with their leave-one-out advantages; none if all fared
    alike or said nothing."""
    advantages = leave_one_out(rewards)
    order = [i for i in sorted(range(len(group)), key=lambda i: rewards[i]) if group[i].tokens]
    if len(order) < 2 or rewards[order[0]] == rewards[order[-1]]:
        return []
    return [group[i].with_advantage(advantages[i]) for i in (order[0], order[-1])]


def normalised(advantages: Sequence[float], floor: float = 0.05) -> list[float]:
    """Divided by their root mean square over the whole batch; what is nearly flat stays small."""
    if not advantages:
        return []
    scale = max((sum(a * a for a in advantages) / len(advantages)) ** 0.5, floor)
    return [a / scale for a in advantages]
