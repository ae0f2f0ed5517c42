"""The default rule: fit a reward model to the judgements, then learn from fresh rollouts it scores.

One judgement per answer is too noisy for a gradient of its own; a small model on the frozen base's
hidden states pools them. Each step samples logged prompts anew, a group of rollouts each, and ranks
every group by an optimistic reward: the model's mean plus part of its standard deviation (an upper
confidence bound). That favours answers few people have judged; they are served, judged, and wrong
first estimates are corrected, where a greedy rule would keep to whatever early noise preferred.
Rewards are not normalised, so while the model knows little the policy moves little. Only the best
and the worst of each group are trained on: they carry most of its signal at half the cost. The rest
of the step is rehearsal. Needs about a third of the votes of the plain policy gradient.

Left out: corrections and comments as targets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch
from burnish.learner.reward import reward_model
from burnish.learner.reward.features import base_features
from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
    best_and_worst,
    with_normalised_advantages,
)
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

OPTIMISM = 0.7  # standard deviations of the reward model added to its mean
UNIT = 0.07  # difference in P(liked) that makes an advantage of one
MAX_ADVANTAGE = 3.0


class RewardModelRule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._model = reward_model.load(config.reward_model, state)
        self._rehearsal = Rehearsal(state.get("rehearsal"))
        self._prompts: Sequence[tuple[int, ...]] = ()

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        rewards = torch.tensor([e.reward for e in data.experience])
        if rewards.min() == rewards.max():
            raise NothingToLearn(f"all {len(rewards)} judged answers got the same reward")
        if not data.prompts:
            raise NothingToLearn("no logged prompt is short enough to be asked again")
        self._prompts, self._rehearsal.source = data.prompts, data.tasks
        size = data.features.shape[1]
        if self._model is None or self._model.size != size:
            self._model = reward_model.make(self.config.reward_model, size, seed)
        fit = self._model.fit(
            data.features,
            (rewards + 1) / 2,
            torch.tensor([e.weight for e in data.experience]),
            generator=torch.Generator().manual_seed(seed),
        )
        return {"reward_auroc": fit.auroc, "reward_samples": float(fit.samples)}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch:
        config, rng = self.config, Random(f"{seed}/{step}")
        groups = max(2, config.rollouts // config.samples_per_prompt)
        task_count = max(1, round(config.rehearsal * groups))
        tasks = self._rehearsal.draw(rng, task_count, policy.model, config.max_tokens)
        prompts = [rng.choice(self._prompts) for _ in range(groups - len(tasks))]
        sampled = policy.sample(
            prompts + [task_prompt(policy.model, task) for task in tasks],
            samples=config.samples_per_prompt,
            max_tokens=config.max_tokens,
            seed=rng.getrandbits(31),
        )
        scored, figures = self._score(policy, sampled[: len(prompts)])
        graded, skill = self._rehearsal.grade(tasks, sampled[len(prompts) :])
        rehearsed = with_normalised_advantages(graded)
        return StepBatch(
            scored + rehearsed,
            {**figures, "skill": skill, "rehearsed": float(len(rehearsed))},
        )

    def state_dict(self) -> dict[str, Any]:
        fitted = self._model.state_dict() if self._model is not None else {}
        return {**fitted, "rehearsal": self._rehearsal.state_dict()}

    def _score(
        self, policy: PolicySampler, groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[Rollout], dict[str, float]]:
        """The best and the worst of each group by the optimistic reward, and figures of all."""
        assert self._model is not None, "prepare comes first"
        rollouts = [rollout for group in groups for rollout in group]
        mean, deviation = self._model.score(base_features(policy.model, rollouts))
        rewards = iter((mean + OPTIMISM * deviation).tolist())
        kept = [
            rollout
            for group in groups
            for rollout in best_and_worst(group, [next(rewards) for _ in group])
        ]
        scored = [rollout.with_advantage(_scaled(rollout.advantage)) for rollout in kept]
        return scored, {"liked": float(mean.mean()), "doubt": float(deviation.mean())}


def _scaled(advantage: float) -> float:
    return max(-MAX_ADVANTAGE, min(MAX_ADVANTAGE, advantage / UNIT))
