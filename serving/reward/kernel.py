"""The kernel of the reward model: when two judged answers say something about each other.

Two answers are alike when their prompts are alike and the answers are: the product of a prompt kernel
and an answer kernel, plus a small share of each alone, plus a linear part for what is liked everywhere.
Likeness fades with the number of votes between two judgements, since tastes change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import torch
from burnish.serving.reward.features import MANNER, split
from torch import Tensor

AXES = 16  # of prompts, and of answers
ROWS = 2048  # that axes are fitted to
MANNER_SCALE = 0.4  # typical distances to a standard deviation of one of its numbers
FAR = 3.0  # standard deviations, from which on more of one no longer matters
NEIGHBOUR_SCALE = 0.15  # of the prompts whose answers set the unit of the answers' distance


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


class Coordinates:
    """Features [N, 3H + MANNER] as `Points`, in the few directions in which they differ most.

    Prompts: principal components of their features, halfway to equal spread, on the unit sphere. Answers:
    principal components of what sets them apart from other answers to such prompts, halfway to equal
    spread, in typical distances; so that what an answer is about does not drown how it is put. Beside
    them its manner, in standard deviations.
    """

    NAMES = (
        "centre",
        "spread",
        "prompt_axes",
        "answer_centre",
        "answer_axes",
        "manner_centre",
        "manner_spread",
    )

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensors[name] for name in self.NAMES}

    @classmethod
    def fit(cls, features: Tensor) -> Self:
        features = features.float()
        rows = torch.linspace(0, len(features) - 1, min(len(features), ROWS)).round().long()
        prompts, answers, manner = split(features[rows])
        centre, spread = prompts.mean(0), prompts.std(0, correction=0).clamp_min(1e-3)
        standard = (prompts - centre) / spread
        prompt_axes = _axes(standard)
        sphere = _on_sphere(standard @ prompt_axes)
        near = cosine_kernel(sphere, sphere, NEIGHBOUR_SCALE).fill_diagonal_(0)
        usual = near @ answers / near.sum(1, keepdim=True).clamp_min(1e-30)
        deviations = answers - usual
        answer_axes = _axes(deviations)
        distance = (deviations @ answer_axes).square().sum(1).mean().sqrt().clamp_min(1e-6)
        return cls(
            {
                "centre": centre,
                "spread": spread,
                "prompt_axes": prompt_axes,
                "answer_centre": answers.mean(0),
                "answer_axes": answer_axes / distance,
                "manner_centre": manner.mean(0),
                "manner_spread": manner.std(0, correction=0).clamp_min(1e-3),
            }
        )

    def __call__(self, features: Tensor, ages: Tensor | None = None) -> Points:
        """`ages` [N] in votes; now, if there are none."""
        prompts, answers, manner = split(features.float())
        of = self.tensors
        unusual = (manner - of["manner_centre"]) / of["manner_spread"]
        return Points(
            _on_sphere((prompts - of["centre"]) / of["spread"] @ of["prompt_axes"]),
            torch.cat(
                [
                    (answers - of["answer_centre"]) @ of["answer_axes"],
                    unusual.clamp(-FAR, FAR) * MANNER_SCALE,
                ],
                1,
            ),
            torch.zeros(len(features)) if ages is None else ages.float(),
        )

    @property
    def size(self) -> int:
        """3H + MANNER."""
        return 3 * len(self.tensors["centre"]) + MANNER


def kernel(a: Points, b: Points, of: Hyperparameters) -> Tensor:
    """Kernel [N, M] between N and M answers."""
    prompt = cosine_kernel(a.prompts, b.prompts, of.prompt)
    answer = (-torch.cdist(a.answers, b.answers).square() / (2 * of.answer**2)).exp()
    alike = prompt * answer + of.alone * (prompt + answer) + of.linear * (a.answers @ b.answers.T)
    return alike * (-of.fading * (a.ages[:, None] - b.ages[None, :]).abs()).exp()


def variance(points: Points, of: Hyperparameters) -> Tensor:
    """The kernel of each answer with itself, [N]."""
    return 1 + 2 * of.alone + of.linear * points.answers.square().sum(1)


def cosine_kernel(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """exp(-(1 - cosine) / scale) between unit vectors a [N, H] and b [M, H], [N, M]."""
    return ((a @ b.T - 1) / scale).exp()


def _axes(rows: Tensor) -> Tensor:
    """Principal axes [d, AXES] of rows [N, d] with a mean of about zero, each divided by the square root
    of its spread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the randomised decomposition
        _, spreads, axes = torch.svd_lowrank(rows, q=min(AXES, *rows.shape), niter=4)
    return axes * (spreads / spreads[0].clamp_min(1e-12)).clamp_min(1e-3) ** -0.5


def _on_sphere(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
