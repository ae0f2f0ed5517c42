"""Update rules by name: `reward_model` (the default) and `pg`."""

from burnish.learner.rules.base import (
    NothingToLearn,
    StepBatch,
    StepConfig,
    TrainingData,
    UpdateRule,
)
from burnish.learner.rules.policy_gradient import PolicyGradientRule
from burnish.learner.rules.reward_model import RewardModelRule

RULES: dict[str, type[UpdateRule]] = {"reward_model": RewardModelRule, "pg": PolicyGradientRule}

__all__ = ["RULES", "NothingToLearn", "StepBatch", "StepConfig", "TrainingData", "UpdateRule"]
