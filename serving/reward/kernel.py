"""The kernel of the reward model: when two judged answers say something about each other.

Two answers are alike when their prompts are alike and the answers are: the product of a prompt kernel
and an answer kernel, plus a small share of each alone, plus a linear part for what is liked everywhere.
Likeness fades with the number of votes between two judgements, since tastes change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel and of the votes' noise; the defaults are for few votes, one in five wrong."""

    prompt: float = 0.3  # scale of the cosine distance between prompts
    answer: float = (
        1.0  # length scale of answers, in typical distances between answers to one prompt
    )
    alone: float = 0.05  # weight of the prompt kernel and of the answer kernel by themselves
    linear: float = 0.01  # weight of the linear part
    noise: float = 3.0  # variance of a vote, in units of the kernel's own
    fading: float = 1e-5  # rate at which likeness fades, per vote between two judgements

    def tensor(self) -> Tensor:
        return torch.tensor(list(asdict(self).values()), dtype=torch.float64)

    @classmethod
    def of(cls, values: Tensor) -> Self:
        return cls(*values.tolist())


@dataclass(frozen=True)
class Points:
    """Judged or new answers as the kernel sees them: prompts [N, AXES] on the unit sphere, answers
    [N, AXES + MANNER] in typical distances, and how many votes ago [N] they were judged, 0 for now."""

    prompts: Tensor
    answers: Tensor
    ages: Tensor

    def __len__(self) -> int:
        return len(self.ages)


def kernel(a: Points, b: Points, of: Hyperparameters) -> Tensor:
    """Kernel [N, M] between N and M answers."""
    prompt = cosine_kernel(a.prompts, b.prompts, of.prompt)
    answer = gaussian_kernel(a.answers, b.answers, of.answer)
    alike = prompt * answer + of.alone * (prompt + answer) + of.linear * (a.answers @ b.answers.T)
    return alike * (-of.fading * (a.ages[:, None] - b.ages[None, :]).abs()).exp()


def variance(points: Points, of: Hyperparameters) -> Tensor:
    """The kernel of each answer with itself, [N]."""
    return 1 + 2 * of.alone + of.linear * points.answers.square().sum(1)


def cosine_kernel(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """exp(-(1 - cosine) / scale) between unit vectors a [N, H] and b [M, H], [N, M]."""
    return ((a @ b.T - 1) / scale).exp()


def gaussian_kernel(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """exp(-|a - b|^2 / (2 scale^2)) between points a [N, D] and b [M, D], [N, M]."""
    return (-torch.cdist(a, b).square() / (2 * scale**2)).exp()
