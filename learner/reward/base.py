"""Reward models: from judgements to what people would think of an answer nobody has judged.

Two of them, chosen by setting: `process` (the default; a Gaussian process) and `heads` (five small
networks). Both read the frozen base's hidden states and say how sure they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How a fit went; `auroc` is on judgements held back from it (0.5 is guessing)."""

    samples: int
    auroc: float


class RewardModel(Protocol):
    """P(a person likes this answer), over features of `size` numbers."""

    size: int

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> Fit:
        """Fit to features [N, size], targets [N] in [0, 1] and weights [N]."""
        ...

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of P(liked), each [N]; of a fitted model."""
        ...

    def mean(self, features: Tensor) -> Tensor:
        """The mean alone [N]; of a loaded model, too."""
        ...

    def state(self) -> dict[str, Tensor]: ...


def auroc(scores: Tensor, targets: Tensor) -> float:
    """Chance that a liked answer scores above a disliked one; 0.5 when either is missing."""
    likes, dislikes = scores[targets > 0.5], scores[targets < 0.5]
    if not len(likes) or not len(dislikes):
        return 0.5
    difference = likes[:, None] - dislikes[None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
