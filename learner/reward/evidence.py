"""What a reward model is fitted to: judged answers as features, each with its target and weight."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """N judged answers, oldest first: features [N, 3H + MANNER] (serving/reward/features.py), targets [N], P(liked)
    in [0, 1], weights [N] in (0, 1], and who judged each. `heard` [N]: what caps leave of a judgement, whoever is
    believed; in full, if nothing is said."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    raters: Sequence[Hashable]
    heard: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if not len(self.heard):
            object.__setattr__(self, "heard", torch.ones(len(self.targets)))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def ages(self) -> Tensor:
        """How many judgements ago each was given, as far as they are heard, [N]: what hardly counts does not
        make others old."""
        since = self.heard.double().flip(0).cumsum(0).flip(0)
        return (since - self.heard).float()

    @property
    def mean(self) -> float:
        """The weighted mean of the targets."""
        return float((self.targets * self.weights).sum() / self.weights.sum().clamp_min(1e-6))
