"""Update rules by name: `reward_model` (the default), and what to compare it with: `pg`, `kto`, `dpo`, `grpo`."""

from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
    UpdateRule,
)
from burnish.learner.rules.dpo import DPORule
from burnish.learner.rules.grpo import GRPORule
from burnish.learner.rules.kto import KTORule
from burnish.learner.rules.policy_gradient import PolicyGradientRule
from burnish.learner.rules.reward_model import RewardModelRule

RULES: dict[str, type[UpdateRule]] = {
    "reward_model": RewardModelRule,
    "pg": PolicyGradientRule,
    "kto": KTORule,
    "dpo": DPORule,
    "grpo": GRPORule,
}

__all__ = ["RULES", "NothingToLearn", "StepBatch", "StepConfig", "TrainingData", "UpdateRule"]
