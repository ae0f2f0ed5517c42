"""Update rules by name: `heads` (the default) and `pg`."""

from burnish.learner.rules.base import Batch, Lesson, NothingToLearn, Sizes, UpdateRule
from burnish.learner.rules.policy_gradient import PolicyGradientRule
from burnish.learner.rules.reward_model import HeadsRule

RULES = {"heads": HeadsRule, "pg": PolicyGradientRule}

__all__ = ["RULES", "Batch", "Lesson", "NothingToLearn", "Sizes", "UpdateRule"]
