"""The interface of update rules: what an update gives to a rule, and what it takes from it.

A rule decides which rollouts to learn from and the advantage of each; the policy trainer turns them
into optimiser steps, the same way for every rule. A new rule is one file with one class, named in
`RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from burnish.feedback.fates import Fate
from burnish.learner.database import LearnerError
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import Experience, LoggedPrompt
from burnish.learner.rules.comments import CommentedPrompt
from burnish.learner.rules.corrections import Pair
from burnish.learner.tasks import TaskSource
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

MIN_SCALE = 1e-3  # of advantages, when they are normalised


class NothingToLearn(LearnerError):
    """There is experience, but no signal in it; the message is shown as the tick's reason."""


@dataclass(frozen=True)
class TrainingData:
    """What an update learns from: judged answers, what of them and of corrections a reward model is fitted
    to, logged prompts to ask again, corrections above what they correct, prompts of failures with what
    people said of them, tasks to rehearse with what the base got right of each family (right answers, of how
    many), and what became of each judgement by event id."""

    experience: Sequence[Experience]
    evidence: Evidence
    prompts: Sequence[LoggedPrompt]
    corrections: Sequence[Pair] = ()
    tasks: TaskSource = field(default_factory=TaskSource)
    solved: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    comments: Sequence[CommentedPrompt] = ()
    fates: Mapping[str, Fate] = field(default_factory=dict)


@dataclass(frozen=True)
class StepConfig:
    """How many rollouts one step samples, and of what length."""

    rollouts: int = 96
    samples_per_prompt: int = 4
    max_tokens: int = 64
    beta: float = 0.1  # of preference losses: how closely they hold to the base


@dataclass(frozen=True)
class StepBatch:
    """Rollouts with advantages for one step, and figures about them."""

    rollouts: Sequence[Rollout]
    figures: Mapping[str, float]


class UpdateRule(Protocol):
    """Made anew for each update, from the parent checkpoint's `state_dict`."""

    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None: ...

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        """Fit what the rule needs before the first step; returns figures about the fit. Raises
        NothingToLearn."""
        ...

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch | None:
        """What to learn from in this step; None ends the update.

        Random numbers follow from `seed` and `step` alone. The batch depends besides on the
        trainer's current weights, where the rule samples from them, and on the rule's own state.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the next update's rule starts from: tensors and JSON values by name."""
        ...


def best_and_worst(scores: Sequence[float], sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The places of the best and of the worst of each group of so many; none of one whose scores are equal."""
    best, worst, at = [], [], 0
    for size in sizes:
        ranked = sorted(range(at, at + size), key=scores.__getitem__)
        if ranked and scores[ranked[0]] < scores[ranked[-1]]:
            worst.append(ranked[0])
            best.append(ranked[-1])
        at += size
    return best, worst


def normalised(advantages: Sequence[float]) -> list[float]:
    """Advantages divided by their root mean square over the batch, or by MIN_SCALE if that
    is larger, so that noise is not scaled up."""
    if not advantages:
        return []
    scale = max((sum(a * a for a in advantages) / len(advantages)) ** 0.5, MIN_SCALE)
    return [a / scale for a in advantages]
