"""What a trainer is to those who feed it batches: one optimiser step at a time, and the adapter it makes.

Implementations: `PolicyTrainer` (one process, which samples too) and `ShardedTrainer` (a group of ranks).
Left out: where rollouts come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.kernels.lora import AdapterWeights
from burnish.learner.training.rollouts import Rollout
from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step saw. KL and entropy are nats per answer token."""

    answers: int
    tokens: int
    kl: float
    entropy: float
    ratio: float  # mean truncated importance weight
    grad_norm: float


NOTHING = StepReport(0, 0, 0.0, 0.0, 1.0, 0.0)


class Trainer(Protocol):
    """Of a group of ranks, every rank makes the same calls with the same batch."""

    @property
    def adapter(self) -> AdapterWeights:
        """The present weights, whole."""
        ...

    def step(self, rollouts: Sequence[Rollout]) -> StepReport:
        """One optimiser step on rollouts that carry advantages."""
        ...

    def optimiser_state(self) -> dict[str, Tensor]:
        """The optimiser's state, whole, as `<key>.<parameter>`."""
        ...

    def close(self) -> None:
        """Free what the trainer holds of the model."""
        ...
