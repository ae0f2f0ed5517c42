"""The plain rule: policy gradient on the logged answers themselves, one answer per prompt.

Groups do not exist in a log, so the baseline is a running mean of rewards, and advantages are
normalised over the whole batch. The trainee corrects for the policy having moved on since the
answer was given (token-level importance weights, truncated at 2); answers older than a few versions
are left alone. Kept as the yardstick, and for models too big to sample from. Half of each step is
rehearsal.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from burnish.learner.reward.experience import Experience
from burnish.learner.rules.base import Batch, Lesson, NothingToLearn, Sizes, normalised
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.training.trainer import Answer, PolicyTrainer, task_prompt
from torch import Tensor

MAX_AGE = 8  # versions
PASSES = 2  # over the log in one update
BASELINE_MEMORY = 0.98


class PolicyGradientRule:
    def __init__(
        self, sizes: Sizes, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]
    ) -> None:
        self.sizes = sizes
        self._rehearsal = Rehearsal(notes.get("rehearsal"))
        self._baseline: float = notes.get("baseline", 0.0)
        self._log: list[Experience] = []
        self._order: list[int] = []

    def prepare(self, trainee: PolicyTrainer, lesson: Lesson, seed: int) -> Mapping[str, float]:
        self._log = [
            e
            for e in lesson.experience
            if e.staleness <= MAX_AGE and len(e.logprobs) == len(e.token_ids)
        ]
        if not self._log:
            raise NothingToLearn(f"no judged answer is younger than {MAX_AGE} versions")
        for item in self._log:
            self._baseline += (1 - BASELINE_MEMORY) * (item.reward - self._baseline)
        rng = Random(seed)
        self._order = [
            i for _ in range(PASSES) for i in rng.sample(range(len(self._log)), len(self._log))
        ]
        return {"baseline": self._baseline, "log": float(len(self._log))}

    def batch(self, trainee: PolicyTrainer, step: int, seed: int) -> Batch:
        half = max(1, self.sizes.answers // 2)
        picked = [self._log[i] for i in self._order[step * half : (step + 1) * half]]
        if not picked:
            return Batch([], {})
        advantages = normalised([e.weight * (e.reward - self._baseline) for e in picked])
        logged = [
            Answer(e.prompt_ids, e.token_ids, e.logprobs, advantage)
            for e, advantage in zip(picked, advantages, strict=True)
        ]
        rng = Random(f"{seed}/{step}")
        tasks = self._rehearsal.draw(
            rng, max(1, half // self.sizes.samples), trainee.model, self.sizes.max_tokens
        )
        groups = trainee.sample(
            [task_prompt(trainee.model, task) for task in tasks],
            samples=self.sizes.samples,
            max_tokens=self.sizes.max_tokens,
            seed=rng.getrandbits(31),
        )
        answers, rate = self._rehearsal.judge(tasks, groups)
        scaled = normalised([answer.advantage for answer in answers])
        right = [a.with_advantage(v) for a, v in zip(answers, scaled, strict=True)]
        return Batch(logged + right, {"skill": rate, "rehearsed": float(len(right))})

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def notes(self) -> dict[str, Any]:
        return {"rehearsal": self._rehearsal.notes(), "baseline": self._baseline}
