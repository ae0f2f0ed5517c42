"""Features of judged answers as points: where the kernel of the reward model sees them.

Principal components tell prompts and answers apart by what sets them apart most, and that is often their
content: two sums are then hardly more alike than a sum and a greeting. Each point is therefore moved to the
mean of those near it (blurring mean shift, Comaniciu and Meer 2002, Carreira-Perpinan 2006), so that prompts
of one kind lie together, and answers put in one way; what is near nothing stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from burnish.serving.reward.features import MANNER, split
from burnish.serving.reward.kernel import Points, cosine_kernel, gaussian_kernel
from torch import Tensor

AXES = 16  # of prompts, and of answers
ROWS = 2048  # that axes are fitted to
NEAR = 1024  # of them, that points are moved towards
MANNER_SCALE = 0.4  # typical distances to a standard deviation of one of its numbers
FAR = 3.0  # standard deviations, from which on more of one no longer matters
NEIGHBOUR_SCALE = 0.15  # of the prompts whose answers set the unit of the answers' distance
SHIFTS, SHIFT_SCALE = 3, 0.1  # of prompts: how often, and the scale of their cosine distance
KIN_SCALE, ANSWER_SHIFT = (
    0.3,
    0.7,
)  # of answers, once: the scales of their prompts and of themselves


class Coordinates:
    """Features [N, 3H + MANNER] as `Points`, in the few directions in which they differ most.

    Prompts: principal components of their features, halfway to equal spread, on the unit sphere. Answers:
    principal components of what sets them apart from other answers to such prompts, halfway to equal
    spread, in typical distances; so that what an answer is about does not drown how it is put. Beside
    them its manner, in standard deviations. Both are then moved towards those near them.
    """

    NAMES = (
        "centre",
        "spread",
        "prompt_axes",
        "answer_centre",
        "answer_axes",
        "manner_centre",
        "manner_spread",
        "near_prompts",  # [SHIFTS + 1, NEAR, AXES]: where they lie before each move, and after the last
        "near_answers",  # [NEAR, AXES + MANNER]
    )

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: tensors[name] for name in self.NAMES}

    @classmethod
    def fit(cls, features: Tensor) -> Self:
        features = _some(features.float(), ROWS)
        prompts, answers, manner = split(features)
        centre, spread = prompts.mean(0), prompts.std(0, correction=0).clamp_min(1e-3)
        standard = (prompts - centre) / spread
        prompt_axes = _axes(standard)
        sphere = _on_sphere(standard @ prompt_axes)
        near = cosine_kernel(sphere, sphere, NEIGHBOUR_SCALE).fill_diagonal_(0)
        usual = near @ answers / near.sum(1, keepdim=True).clamp_min(1e-30)
        deviations = answers - usual
        answer_axes = _axes(deviations)
        distance = (deviations @ answer_axes).square().sum(1).mean().sqrt().clamp_min(1e-6)
        axes = {
            "centre": centre,
            "spread": spread,
            "prompt_axes": prompt_axes,
            "answer_centre": answers.mean(0),
            "answer_axes": answer_axes / distance,
            "manner_centre": manner.mean(0),
            "manner_spread": manner.std(0, correction=0).clamp_min(1e-3),
        }
        moved, near_answers = _placed(axes, _some(features, NEAR))
        near_prompts = [moved]
        for _ in range(SHIFTS):
            near_prompts.append(_shifted(near_prompts[-1], near_prompts[-1]))
        return cls(
            {**axes, "near_prompts": torch.stack(near_prompts), "near_answers": near_answers}
        )

    def __call__(self, features: Tensor, ages: Tensor | None = None) -> Points:
        """`ages` [N] in votes; now, if there are none."""
        prompts, answers = _placed(self.tensors, features.float())
        *passed, kin = self.tensors["near_prompts"]
        for near in passed:
            prompts = _shifted(prompts, near)
        others = self.tensors["near_answers"]
        weights = cosine_kernel(prompts, kin, KIN_SCALE)
        weights *= gaussian_kernel(answers, others, ANSWER_SHIFT)
        answers = (answers + weights @ others) / (1 + weights.sum(1, keepdim=True))
        return Points(
            prompts, answers, torch.zeros(len(features)) if ages is None else ages.float()
        )

    @property
    def size(self) -> int:
        """3H + MANNER."""
        return 3 * len(self.tensors["centre"]) + MANNER


def _placed(axes: Mapping[str, Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts and answers along the axes, before they are moved."""
    prompts, answers, manner = split(features)
    unusual = (manner - axes["manner_centre"]) / axes["manner_spread"]
    put = (answers - axes["answer_centre"]) @ axes["answer_axes"]
    return (
        _on_sphere((prompts - axes["centre"]) / axes["spread"] @ axes["prompt_axes"]),
        torch.cat([put, unusual.clamp(-FAR, FAR) * MANNER_SCALE], 1),
    )


def _shifted(prompts: Tensor, near: Tensor) -> Tensor:
    """Each at the mean of itself and those near it."""
    return _on_sphere(prompts + cosine_kernel(prompts, near, SHIFT_SCALE) @ near)


def _some(rows: Tensor, count: int) -> Tensor:
    """So many at most, spread evenly."""
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), count)).round().long()]


def _axes(rows: Tensor) -> Tensor:
    """Principal axes [d, AXES] of rows [N, d] with a mean of about zero, each divided by the square root
    of its spread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the randomised decomposition
        _, spreads, axes = torch.svd_lowrank(rows, q=min(AXES, *rows.shape), niter=4)
    return axes * (spreads / spreads[0].clamp_min(1e-12)).clamp_min(1e-3) ** -0.5


def _on_sphere(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
