"""The interface of reward models: from judgements to the reward of an answer nobody has judged.

A reward model reads the frozen base's hidden states (features.py), predicts P(liked), and says how
sure it is. Two are there, by setting: `gaussian_process` (the default) and `ensemble`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class FitReport:
    """How a fit went; `auroc` is on judgements held out from it (0.5 is guessing)."""

    samples: int
    auroc: float


class RewardModel(Protocol):
    """P(a person likes this answer), over features of `size` numbers."""

    size: int

    def __init__(self, size: int, seed: int = 0) -> None: ...

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> FitReport:
        """Fit to features [N, size], targets [N] in [0, 1] and weights [N]."""
        ...

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of P(liked), each [N]. Needs a fit, not only a load."""
        ...

    def mean(self, features: Tensor) -> Tensor:
        """The mean alone, [N]; after a fit or a load."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What `load` needs to predict the same means."""
        ...

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """From a state dict, which may hold other names besides. Raises KeyError if one is missing."""
        ...


def auroc(scores: Tensor, targets: Tensor) -> float:
    """Area under the ROC curve: the chance that a liked answer scores above a disliked one; 0.5
    when either is missing."""
    likes, dislikes = scores[targets > 0.5], scores[targets < 0.5]
    if not len(likes) or not len(dislikes):
        return 0.5
    difference = likes[:, None] - dislikes[None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
