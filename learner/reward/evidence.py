"""What a reward model is fitted to: judged answers as features, each with its target and weight."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """N judged answers, oldest first: features [N, 3H + MANNER] (serving/reward/features.py), targets [N], P(liked)
    in [0, 1], weights [N] in (0, 1], and who judged each."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    raters: Sequence[Hashable]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def ages(self) -> Tensor:
        """How many judgements ago each was given, [N]."""
        return torch.arange(len(self) - 1, -1, -1).float()

    @property
    def mean(self) -> float:
        """The weighted mean of the targets."""
        return float((self.targets * self.weights).sum() / self.weights.sum().clamp_min(1e-6))
