"""Draws from the prior as functions: random Fourier features of the kernel.

A draw of a Gaussian process is a whole function. Random features (Rahimi and Recht 2007) make one that
can be asked anywhere, and at any later time; what judgements add to it is exact (reward_model.py). A
cosine kernel on the unit sphere is a Gaussian one, since |a - b|^2 = 2 (1 - a.b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from burnish.serving.reward.kernel import Hyperparameters, Points
from torch import Tensor

FEATURES = 768  # of the product; a third as many of either kernel alone


@dataclass(frozen=True)
class RandomFeatures:
    """Functions whose random sums have the kernel as covariance, the same for one `seed` and width."""

    of: Hyperparameters
    width: int  # of the answers' points
    seed: int = 0

    def weights(self, generator: torch.Generator, draws: int) -> Tensor:
        """Of so many functions drawn from the prior: [F, draws]."""
        count = FEATURES + 2 * (FEATURES // 3) + self.width
        return torch.randn(count, draws, generator=generator)

    def __call__(self, points: Points) -> Tensor:
        """The features [N, F] of answers."""
        generator = torch.Generator().manual_seed(self.seed)
        prompts = points.prompts / math.sqrt(self.of.prompt)
        answers = points.answers / self.of.answer
        both = torch.cat([prompts, answers], 1)
        few = FEATURES // 3
        alone = math.sqrt(self.of.alone / few)
        linear = points.answers * math.sqrt(self.of.linear)
        return torch.cat(
            [
                self._waves(both, points.ages, FEATURES, generator) * math.sqrt(1 / FEATURES),
                self._waves(prompts, points.ages, few, generator) * alone,
                self._waves(answers, points.ages, few, generator) * alone,
                self._waves(linear[:, :0], points.ages, linear.shape[1], generator) * linear,
            ],
            1,
        )

    def _waves(
        self, points: Tensor, ages: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Waves [N, count] over points [N, d] and time, each with a mean square of one."""
        frequencies = torch.randn(points.shape[1], count, generator=generator)
        # Fading by exp(-|t|) is the Fourier transform of a Cauchy density.
        in_time = torch.empty(1, count).cauchy_(0, 1, generator=generator) * self.of.fading
        phases = 2 * math.pi * torch.rand(count, generator=generator)
        return math.sqrt(2) * (points @ frequencies + ages[:, None] @ in_time + phases).cos()
