"""What a trainer is to those who feed it batches: one optimiser step at a time, and the adapter it makes.

Implementations: `PolicyTrainer` (one process), `ShardedTrainer` (one rank of a group), `RankedTrainer` (the
group, as its first rank sees it) and `TinkerTrainer` (a service off the box). Left out: where rollouts come
from (sampling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from burnish.kernels.lora import AdapterWeights
from burnish.learner.training.rollouts import Rollout


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step saw. KL and entropy are nats per answer token."""

    answers: int
    tokens: int
    kl: float
    entropy: float
    ratio: float  # mean truncated importance weight
    grad_norm: float

    @property
    def kl_per_answer(self) -> float:
        return self.kl * self.tokens / max(1, self.answers)


NOTHING = StepReport(0, 0, 0.0, 0.0, 1.0, 0.0)


class Trainer(Protocol):
    """What trains an adapter."""

    @property
    def adapter(self) -> AdapterWeights:
        """The present weights, whole."""
        ...

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        """One optimiser step on rollouts that carry advantages."""
        ...

    def save_optimiser(self, folder: Path) -> None:
        """Write the optimiser's state into the folder of a checkpoint, as checkpoint.py reads it."""
        ...

    def close(self) -> None:
        """Free what the trainer holds of the model."""
        ...
