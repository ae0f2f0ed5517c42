"""The training loop of an update: from where it starts to a finished checkpoint, within a budget.

Every few seconds the state is written as a checkpoint, so that a killed update goes on instead of
starting over. Random numbers follow from the update's seed and the step's number, so no random state
is saved. What a step learns from depends besides on the trainer's current weights and on the rule's
state; the checkpoint holds both.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path

from burnish.kernels.model import LoadedModel
from burnish.learner.rules import RULES, StepConfig, TrainingData, UpdateRule
from burnish.learner.settings import LearnerSettings
from burnish.learner.training import checkpoint, ranks
from burnish.learner.training.checkpoint import Checkpoint, TrainingProgress
from burnish.learner.training.prompts import answer_room
from burnish.learner.training.protocol import Trainer
from burnish.learner.training.rollouts import Sampler
from burnish.learner.training.sampling import PolicySampler
from burnish.learner.training.tinker import TinkerTrainer, open_connection
from burnish.learner.training.trainer import PolicyTrainer, TrainerConfig
from burnish.learner.update.start import TrainingStart

RATE_TIMES_WIDTH = 0.256
LEAST_ANEW, MOST_ANEW = 4, 8  # budgets of an update that begins anew at the base
ROLLOUTS_PER_JUDGEMENT = 16  # past which so few judgements are fitted rather than learnt from


def train(
    start: TrainingStart,
    folder: Path,
    data: TrainingData,
    model: LoadedModel,
    sampler: Sampler,
    settings: LearnerSettings,
    check_lease: Callable[[], None],
) -> Checkpoint:
    """Take steps until the budget is spent and return the finished checkpoint at `folder`.

    `check_lease` is called before each step and raises when the lease is lost. Raises NothingToLearn.
    """
    progress = start.progress
    rule = RULES[settings.rule](step_config(data, model, settings), start.rule_state)
    with ExitStack() as opened:
        trainer = opened.enter_context(closing(new_trainer(start, model, settings)))
        policy = opened.enter_context(closing(PolicySampler(model, sampler, trainer)))
        fit_figures = rule.prepare(policy, data, progress.seed)
        means = RunningMeans(progress.figures, progress.step)
        began, saved = time.monotonic() - progress.seconds, time.monotonic()
        step, slowest = progress.step, 0.0
        longer = budgets(progress)
        most = longer * most_steps(len(data.evidence), settings)
        while step < most:
            step_began = time.monotonic()
            over_budget = step_began - began + slowest > longer * settings.training_seconds
            if over_budget and step > progress.step:
                break
            check_lease()
            batch = rule.batch(policy, step, progress.seed)
            if batch is None:
                break
            report = trainer.step(batch.rollouts)
            means.add({**batch.figures, **{k: float(v) for k, v in asdict(report).items()}})
            step += 1
            slowest = max(slowest, time.monotonic() - step_began)
            if time.monotonic() - saved > settings.checkpoint_seconds:
                seconds = time.monotonic() - began
                now = replace(progress, step=step, seconds=seconds, figures=means.values())
                _save(folder, now, trainer, rule, model)
                saved = time.monotonic()
        done = replace(
            progress,
            step=step,
            seconds=round(time.monotonic() - began, 3),
            done=True,
            figures={**means.values(), **fit_figures, **data.figures},
        )
        _save(folder, done, trainer, rule, model)
    finished = checkpoint.load(folder)
    assert finished is not None, "it has just been written"
    return finished


def budgets(progress: TrainingProgress) -> int:
    """How many of the settings' budgets an update has: one, or, where it begins anew at the base, as many as its
    line has had, within limits; it is to come as far as that, and one that stops on the way is worse."""
    return 1 if progress.since_base else min(MOST_ANEW, max(LEAST_ANEW, progress.generation))


def most_steps(judgements: int, settings: LearnerSettings) -> int:
    """The settings' most, or what so few judged answers bear, corrections among them: a policy that is
    optimised for long against a reward model of little knowledge learns its errors (Gao et al. 2023).
    Verifiable tasks bear any number."""
    if settings.rule == "grpo":
        return settings.update_steps
    borne = math.ceil(ROLLOUTS_PER_JUDGEMENT * judgements / settings.answers_per_step)
    return min(settings.update_steps, max(1, borne))


def new_trainer(start: TrainingStart, model: LoadedModel, settings: LearnerSettings) -> Trainer:
    """At a Tinker service, of the group of ranks that this process is the first of, or of this process
    alone."""
    config = trainer_config(settings, model)
    if settings.tinker_model is not None:
        connection = open_connection(settings)
        return TinkerTrainer(
            model, start.adapter, config, connection, start.optimiser, settings.seed
        )
    if ranks.in_group():
        return ranks.RankedTrainer(model.path, start.adapter, config, start.optimiser)
    return PolicyTrainer(model, start.adapter, config, start.optimiser)


def step_config(data: TrainingData, model: LoadedModel, settings: LearnerSettings) -> StepConfig:
    """A step's size; its token limit is the answers' 95th percentile and a quarter more, within
    [24, `max_answer_tokens`] and half of the window."""
    longest = answer_room(model, settings.max_answer_tokens)
    lengths = sorted(len(e.token_ids) for e in data.experience)
    usual = lengths[int(0.95 * (len(lengths) - 1))] if lengths else longest
    return StepConfig(
        rollouts=settings.answers_per_step,
        samples_per_prompt=settings.samples_per_prompt,
        max_tokens=min(longest, max(24, int(1.25 * usual))),
        beta=settings.preference_beta,
    )


def trainer_config(settings: LearnerSettings, model: LoadedModel) -> TrainerConfig:
    """The wider a model, the lower its learning rate (as in muP, Yang et al. 2022), from ember's 1e-3."""
    width = model.config.get_text_config().hidden_size
    return TrainerConfig(
        learning_rate=settings.learning_rate or RATE_TIMES_WIDTH / width,
        clip_norm=settings.clip_norm,
        kl_weight=settings.kl_weight,
        kl_budget=settings.kl_budget,
    )


class RunningMeans:
    """Means of the steps' figures, continued from those of `count` earlier steps."""

    def __init__(self, means: Mapping[str, float], count: int) -> None:
        self._sums = {name: mean * count for name, mean in means.items()}
        self._counts: dict[str, int] = defaultdict(int, dict.fromkeys(means, count))

    def add(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if math.isnan(value):  # of no tasks, or of a trainer elsewhere that does not know it
                continue
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] += 1

    def values(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}


def _save(
    folder: Path,
    progress: TrainingProgress,
    trainer: Trainer,
    rule: UpdateRule,
    model: LoadedModel,
) -> None:
    checkpoint.save(
        folder,
        progress,
        trainer.adapter,
        trainer.save_optimiser,
        rule.state_dict(),
        model.path.name,
    )
