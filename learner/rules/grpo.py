"""The `grpo` rule: group-relative policy optimisation on verifiable tasks alone (Shao et al. 2024).

A baseline to compare with: it learns from no judgement. Each step draws tasks, samples a group of answers
to each, and rewards those that are right with one. An answer's advantage is its reward less its group's
mean. Neither is divided by the group's standard deviation nor by an answer's own length, which both bias
the objective (Dr. GRPO, Liu et al. 2025), but by the longest answer that may be sampled: with TRL's
GRPOTrainer, `loss_type="dr_grpo"` and `scale_rewards=False`.

    L = -1/(N * max_tokens) * sum over answers and their tokens of A * pi/pi_behaviour

One step is taken on each batch, so the ratio is one up to rounding, and nothing is clipped. See
sequence_loss.py for the trainer's KL penalty, which the published loss has none of by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from burnish.learner.rules.base import NothingToLearn, StepBatch, StepConfig, TrainingData
from burnish.learner.rules.rehearsal import draw_tasks
from burnish.learner.rules.sequence_loss import descending
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward less the mean of its group."""
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


class GRPORule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._tasks = TaskSource()

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        self._tasks = data.tasks
        if not data.tasks.pools:
            raise NothingToLearn("there is no verifiable task to learn from")
        return {}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch:
        config, rng = self.config, Random(f"{seed}/{step}")
        count = max(1, config.rollouts // config.samples_per_prompt)
        pools = self._tasks.pools
        tasks = draw_tasks(
            self._tasks, rng, pools, [1.0] * len(pools), count, policy.model, config.max_tokens
        )
        groups = policy.sample(
            [task_prompt(policy.model, task) for task in tasks],
            samples=config.samples_per_prompt,
            max_tokens=config.max_tokens,
            seed=rng.getrandbits(31),
        )
        answers, rewards, advantages = [], [], []
        for task, group in zip(tasks, groups, strict=True):
            graded = self._graded(task, group)
            if graded:
                answers += group
                rewards += graded
                advantages += group_advantages(graded)
        slopes = [-a / (len(answers) * config.max_tokens) for a in advantages]
        skill = sum(rewards) / len(rewards) if rewards else 0.0
        return StepBatch(descending(answers, slopes), {"skill": skill})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def _graded(self, task: Task, group: Sequence[Rollout]) -> list[float]:
        """One for each right answer; nothing at all where the task's checker fails."""
        try:
            return [float(task.is_correct(rollout.text)) for rollout in group]
        except CheckFailed as error:
            self._tasks.note(str(error))
            return []
