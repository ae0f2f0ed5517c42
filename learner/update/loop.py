"""The training part of an update: from the parent's checkpoint to a finished one, within a budget.

Every few seconds the state is written as a checkpoint, so that a killed update goes on instead of
starting over. What a step draws depends only on the update's seed and the step's number; there is
no random state to save.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.reward import reward_model
from burnish.learner.rules import RULES, Lesson, Sizes, UpdateRule
from burnish.learner.settings import LearnerSettings
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import Checkpoint, Progress
from burnish.learner.training.trainer import PolicyTrainer, Sampler, TrainerConfig
from torch import Tensor


@dataclass(frozen=True)
class Start:
    """What an update begins with: the parent's state, or a fresh adapter."""

    adapter: AdapterWeights
    optimiser: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    notes: Mapping[str, Any]
    progress: Progress

    @classmethod
    def resumed(cls, saved: Checkpoint) -> Start:
        return cls(saved.adapter, saved.optimiser, saved.heads, saved.progress.rule, saved.progress)

    @classmethod
    def child(cls, parent: Checkpoint, progress: Progress) -> Start:
        return cls(parent.adapter, parent.optimiser, parent.heads, parent.progress.rule, progress)


def fresh_adapter(model: LoadedModel, settings: LearnerSettings) -> AdapterWeights:
    spec = LoraSpec(settings.lora_rank, settings.lora_alpha, default_targets(model.model))
    return init_adapter(model.model, spec, settings.seed)


def code_version() -> str:
    return version("burnish")


def train(
    start: Start,
    folder: Path,
    lesson: Lesson,
    model: LoadedModel,
    sampler: Sampler,
    settings: LearnerSettings,
    alive: Callable[[], None],
) -> Checkpoint:
    """Take steps until the budget is spent and return the finished checkpoint at `folder`.

    `alive` is called before each step and raises when the lease is gone. Raises NothingToLearn.
    """
    progress = start.progress
    rule = RULES[settings.rule](sizes(lesson, settings), start.heads, start.notes)
    trainee = PolicyTrainer(model, sampler, start.adapter, hyper(settings), start.optimiser)
    try:
        fitted = rule.prepare(trainee, lesson, progress.seed)
        figures = Averages(progress.figures, progress.step)
        began, saved = time.monotonic() - progress.seconds, time.monotonic()
        step, slowest = progress.step, 0.0
        while step < settings.update_steps:
            step_began = time.monotonic()
            if step_began - began + slowest > settings.update_seconds and step > progress.step:
                break
            alive()
            batch = rule.batch(trainee, step, progress.seed)
            if not batch.answers and not batch.figures:
                break
            report = trainee.step(batch.answers)
            figures.add({**batch.figures, **{k: float(v) for k, v in asdict(report).items()}})
            step += 1
            slowest = max(slowest, time.monotonic() - step_began)
            if time.monotonic() - saved > settings.checkpoint_seconds:
                now = replace(
                    progress,
                    step=step,
                    seconds=time.monotonic() - began,
                    figures=figures.means(),
                    rule=rule.notes(),
                )
                _save(folder, now, trainee, rule, model)
                saved = time.monotonic()
        done = replace(
            progress,
            step=step,
            seconds=round(time.monotonic() - began, 3),
            done=True,
            figures={**figures.means(), **fitted, **lesson.figures},
            rule=rule.notes(),
        )
        _save(folder, done, trainee, rule, model)
    finally:
        trainee.close()
    finished = checkpoint.load(folder)
    assert finished is not None, "it was written a moment ago"
    return finished


def expected_rewards(
    kind: str, state: Mapping[str, Tensor], features: Tensor
) -> list[float] | None:
    """The reward in [-1, 1] that the parent's reward model foresees; None while there is none."""
    model = reward_model.load(kind, state)
    if model is None or model.size != features.shape[1]:
        return None
    return (2 * model.mean(features) - 1).clamp(-1, 1).tolist()


def sizes(lesson: Lesson, settings: LearnerSettings) -> Sizes:
    """Room for the longest answers that people get, and a little more."""
    lengths = sorted(len(e.token_ids) for e in lesson.experience)
    usual = lengths[int(0.95 * (len(lengths) - 1))] if lengths else settings.max_answer_tokens
    return Sizes(
        answers=settings.answers_per_step,
        samples=settings.samples_per_prompt,
        max_tokens=min(settings.max_answer_tokens, max(24, int(1.25 * usual))),
        rehearsal=settings.rehearsal,
        reward_model=settings.reward_model,
    )


def hyper(settings: LearnerSettings) -> TrainerConfig:
    return TrainerConfig(
        learning_rate=settings.learning_rate,
        clip_norm=settings.clip_norm,
        kl_weight=settings.kl_weight,
        kl_budget=settings.kl_budget,
    )


class Averages:
    """Means of the steps' figures, continued across a resume."""

    def __init__(self, means: Mapping[str, float], count: int) -> None:
        self._sums = {name: mean * count for name, mean in means.items()}
        self._counts: dict[str, int] = defaultdict(int, dict.fromkeys(means, count))

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] += 1

    def means(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}


def _save(
    folder: Path, progress: Progress, trainee: PolicyTrainer, rule: UpdateRule, model: LoadedModel
) -> None:
    checkpoint.save(
        folder, progress, trainee.adapter, trainee.moments(), rule.tensors(), model.path.name
    )
