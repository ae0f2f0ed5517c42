"""The default rule: a reward model fitted to the judgements, then fresh answers scored by it.

One judgement per answer is too little for a gradient of its own; a small model on the frozen base's
hidden states pools them. Each step asks logged prompts anew, four answers each, and compares them by
the model's mean plus part of its deviation. What few have judged is thus tried, people judge it, and
a first impression that was wrong is found out; without that, early noise decides for a manner that
then nobody ever sees challenged. The reward is not normalised, so as long as the model knows little
it moves little. The rest of the step is rehearsal. Of each group the best and the worst are trained
on: they carry most of what four say, at half the cost. Needs about a third of the votes of the plain
policy gradient. Left out: corrections and comments as targets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch
from burnish.learner.reward import reward_model
from burnish.learner.rules.base import (
    Batch,
    Lesson,
    NothingToLearn,
    Sizes,
    extremes,
    normalised,
)
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.tasks import Task
from burnish.learner.training.trainer import Answer, PolicyTrainer, base_features, task_prompt
from torch import Tensor

OPTIMISM = 0.7  # standard deviations of the reward model put on the reward
UNIT, MOST = 0.07, 3.0  # difference in P(liked) that makes an advantage of one; largest advantage


class HeadsRule:
    def __init__(
        self, sizes: Sizes, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]
    ) -> None:
        self.sizes = sizes
        self._model = reward_model.load(sizes.reward_model, tensors)
        self._rehearsal = Rehearsal(notes.get("rehearsal"))
        self._prompts: Sequence[tuple[int, ...]] = ()

    def prepare(self, trainee: PolicyTrainer, lesson: Lesson, seed: int) -> Mapping[str, float]:
        rewards = torch.tensor([e.reward for e in lesson.experience])
        if rewards.min() == rewards.max():
            raise NothingToLearn(f"all {len(rewards)} judged answers got the same reward")
        if not lesson.prompts:
            raise NothingToLearn("no logged prompt is short enough to be asked again")
        self._prompts = lesson.prompts
        size = lesson.features.shape[1]
        if self._model is None or self._model.size != size:
            self._model = reward_model.make(self.sizes.reward_model, size, seed)
        fit = self._model.fit(
            lesson.features,
            (rewards + 1) / 2,
            torch.tensor([e.weight for e in lesson.experience]),
            generator=torch.Generator().manual_seed(seed),
        )
        return {"reward_auroc": fit.auroc, "reward_samples": float(fit.samples)}

    def batch(self, trainee: PolicyTrainer, step: int, seed: int) -> Batch:
        rng = Random(f"{seed}/{step}")
        groups = max(2, self.sizes.answers // self.sizes.samples)
        rehearsed = max(1, round(self.sizes.rehearsal * groups))
        asked = [rng.choice(self._prompts) for _ in range(groups - rehearsed)]
        tasks = self._rehearsal.draw(rng, rehearsed, trainee.model, self.sizes.max_tokens)
        answers = trainee.sample(
            asked + [task_prompt(trainee.model, task) for task in tasks],
            samples=self.sizes.samples,
            max_tokens=self.sizes.max_tokens,
            seed=rng.getrandbits(31),
        )
        liked, figures = self._score(trainee, answers[: len(asked)])
        right, rate = self._rehearse(tasks, answers[len(asked) :])
        return Batch(liked + right, {**figures, "skill": rate, "rehearsed": float(len(right))})

    def tensors(self) -> dict[str, Tensor]:
        return self._model.state() if self._model is not None else {}

    def notes(self) -> dict[str, Any]:
        return {"rehearsal": self._rehearsal.notes()}

    def _score(
        self, trainee: PolicyTrainer, groups: Sequence[Sequence[Answer]]
    ) -> tuple[list[Answer], dict[str, float]]:
        assert self._model is not None, "prepare comes first"
        answers = [answer for group in groups for answer in group]
        mean, spread = self._model.score(base_features(trainee.model, answers))
        rewards = iter((mean + OPTIMISM * spread).tolist())
        kept = [
            pair for group in groups for pair in extremes(group, [next(rewards) for _ in group])
        ]
        scored = [a.with_advantage(max(-MOST, min(MOST, a.advantage / UNIT))) for a in kept]
        return scored, {"liked": float(mean.mean()), "doubt": float(spread.mean())}

    def _rehearse(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Answer]]
    ) -> tuple[list[Answer], float]:
        answers, rate = self._rehearsal.judge(tasks, groups)
        scaled = normalised([answer.advantage for answer in answers])
        return [a.with_advantage(v) for a, v in zip(answers, scaled, strict=True)], rate
