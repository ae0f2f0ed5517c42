"""The `pg` rule: policy gradient on the logged answers themselves, one answer per prompt.

A log has no groups, so the baseline is a running mean of rewards, and advantages are normalised over
the batch. The trainer corrects for the policy having changed since the answer was given (token-level
truncated importance weights); answers older than `MAX_STALENESS` versions are left out, and those that a
reward model chose among several, since they are no samples of a policy whose probabilities are known. Kept as the
baseline to compare with, and for models too big to sample from. The rest of each step is rehearsal.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from burnish.learner.reward.experience import Experience
from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
    normalised,
)
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

MAX_STALENESS = 8  # versions
EPOCHS = 2  # over the log in one update
BASELINE_DECAY = 0.98  # of the running mean of rewards, per answer


class PolicyGradientRule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._rehearsal = Rehearsal(state.get("rehearsal"))
        self._baseline: float = state.get("baseline", 0.0)
        self._log: list[Experience] = []
        self._order: list[int] = []

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        self._log = [
            e
            for e in data.experience
            if e.staleness <= MAX_STALENESS and len(e.logprobs) == len(e.token_ids) and not e.chosen
        ]
        if not self._log:
            raise NothingToLearn(
                f"no judged answer is a plain sample of a version younger than {MAX_STALENESS}"
            )
        self._rehearsal.begin(data.tasks, data.solved)
        for item in self._log:
            self._baseline += (1 - BASELINE_DECAY) * (item.reward - self._baseline)
        rng = Random(seed)
        self._order = [
            i for _ in range(EPOCHS) for i in rng.sample(range(len(self._log)), len(self._log))
        ]
        return {"baseline": self._baseline, "log": float(len(self._log))}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch | None:
        config = self.config
        half = max(1, config.rollouts // 2)
        picked = [self._log[i] for i in self._order[step * half : (step + 1) * half]]
        if not picked:
            return None
        advantages = normalised([e.weight * (e.reward - self._baseline) for e in picked])
        logged = [
            Rollout(e.prompt_ids, e.token_ids, e.logprobs, advantage)
            for e, advantage in zip(picked, advantages, strict=True)
        ]
        rng = Random(f"{seed}/{step}")
        groups = config.rollouts // config.samples_per_prompt
        tasks = self._rehearsal.draw(rng, groups, policy.model, config.max_tokens)
        sampled = policy.sample(
            [task_prompt(policy.model, task) for task in tasks],
            samples=config.samples_per_prompt,
            max_tokens=config.max_tokens,
            seed=rng.getrandbits(31),
        )
        mixed, skill = self._rehearsal.grade(tasks, sampled)
        rehearsed = [r for group in mixed for r in group.pair(lambda one: len(one.token_ids))]
        return StepBatch(logged + rehearsed, {"skill": skill, "rehearsed": float(len(rehearsed))})

    def state_dict(self) -> dict[str, Any]:
        return {"rehearsal": self._rehearsal.state_dict(), "baseline": self._baseline}
