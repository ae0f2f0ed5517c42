"""What sharded and single training are compared on."""

from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import TrainerConfig

from tests.learner.training.conftest import random_rollouts

CONFIG = TrainerConfig(learning_rate=1e-2, clip_norm=1.0, kl_weight=0.05, kl_budget=10.0)
SPEC = (4, 8.0)  # rank and alpha
STEPS = 3


def batch_of(step: int) -> list[Rollout]:
    """Seven rollouts, which no number of ranks divides, of different advantages."""
    rollouts = random_rollouts(7)
    return [r.with_advantage((-1.0) ** (i + step) * (i + 1) / 4) for i, r in enumerate(rollouts)]
