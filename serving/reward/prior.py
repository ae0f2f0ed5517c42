"""Draws from the prior as functions: random Fourier features of the kernel.

A draw of a Gaussian process is a whole function. Random features (Rahimi and Recht 2007) make one that
can be asked anywhere, and at any later time; what judgements add to it is exact (reward_model.py). A
cosine kernel on the unit sphere is a Gaussian one, since |a - b|^2 = 2 (1 - a.b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from burnish.serving.reward.kernel import Hyperparameters, Points
from torch import Tensor

FEATURES = 768  # of the product
FEW = FEATURES // 3  # of either kernel alone


@dataclass(frozen=True)
class Waves:
    """Random waves over points of d numbers and time, each with a mean square of one."""

    frequencies: Tensor  # [d, W]
    in_time: Tensor  # [1, W]
    phases: Tensor  # [W]

    @classmethod
    def drawn(cls, size: int, count: int, fading: float, generator: torch.Generator) -> Self:
        return cls(
            torch.randn(size, count, generator=generator),
            # Fading by exp(-|t|) is the Fourier transform of a Cauchy density.
            torch.empty(1, count).cauchy_(0, 1, generator=generator) * fading,
            2 * math.pi * torch.rand(count, generator=generator),
        )

    def __call__(self, points: Tensor, ages: Tensor) -> Tensor:
        """[N, W] at points [N, d] of ages [N]."""
        angles = points @ self.frequencies + ages[:, None] @ self.in_time + self.phases
        return math.sqrt(2) * angles.cos()


@dataclass(frozen=True)
class RandomFeatures:
    """Functions whose random sums have the kernel as covariance, the same for one `seed` and width."""

    of: Hyperparameters
    width: int  # H
    seed: int = 0

    def weights(self, generator: torch.Generator, draws: int) -> Tensor:
        """Of so many functions drawn from the prior: [F, draws]."""
        count = FEATURES + 2 * FEW + 2 * self.width
        return torch.randn(count, draws, generator=generator)

    @cached_property
    def waves(self) -> tuple[Waves, Waves, Waves, Waves]:
        """Over prompts and answers, prompts, answers, and time alone."""
        generator = torch.Generator().manual_seed(self.seed)
        sizes = ((3, FEATURES), (1, FEW), (2, FEW), (0, 2 * self.width))
        both, of_prompt, of_answer, of_time = (
            Waves.drawn(times * self.width, count, self.of.fading, generator)
            for times, count in sizes
        )
        return both, of_prompt, of_answer, of_time

    def __call__(self, points: Points) -> Tensor:
        """The features [N, F] of answers."""
        prompts = points.prompts / math.sqrt(self.of.prompt)
        answers = points.answers / self.of.answer
        linear = points.answers * math.sqrt(self.of.linear)
        both, of_prompt, of_answer, of_time = self.waves
        alone = math.sqrt(self.of.alone / FEW)
        return torch.cat(
            [
                both(torch.cat([prompts, answers], 1), points.ages) * math.sqrt(1 / FEATURES),
                of_prompt(prompts, points.ages) * alone,
                of_answer(answers, points.ages) * alone,
                of_time(linear[:, :0], points.ages) * linear,
            ],
            1,
        )
