"""A Gaussian process over the frozen base's hidden states, as it was fitted: what it expects of answers.

The posterior mean is the prediction. A draw is one function that the judgements leave possible, the same
for every answer: it is a draw of the prior plus what the judgements correct of it (pathwise
conditioning, Wilson et al. 2020; Matheron's rule). Choosing by a draw is Thompson sampling: it tries what
nobody has judged as often as that may well be better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from burnish.serving.reward.kernel import Coordinates, Hyperparameters, Points, kernel
from burnish.serving.reward.prior import RandomFeatures
from torch import Tensor


@dataclass(frozen=True)
class RewardModel:
    """P(a person likes this answer), over features of `size` numbers (features.py).

    `judged` are the N judgements; `weights` [N] make the mean of them, `draw_weights` [N, D] and
    `prior_weights` [F, D] make D draws. `amplitude`: standard deviation of P(liked) where nobody has
    judged.
    """

    hyperparameters: Hyperparameters
    coordinates: Coordinates
    judged: Points
    prior: float
    amplitude: float
    weights: Tensor
    draw_weights: Tensor
    prior_weights: Tensor

    @property
    def size(self) -> int:
        return self.coordinates.size

    @property
    def draws(self) -> int:
        return self.draw_weights.shape[1]

    def mean(self, features: Tensor) -> Tensor:
        """The posterior mean of P(liked), [N]."""
        return self.prior + self.likeness(features) @ self.weights

    def draw(self, features: Tensor, number: int) -> Tensor:
        """P(liked) by draw `number` of `draws`, [N]; not bounded to [0, 1]."""
        return self.scores_and_support(features, number)[0]

    def certainty(self, better: Tensor, worse: Tensor) -> Tensor:
        """How sure it is, in [-1, 1], that of each two answers the first is liked better: twice the probability,
        less one, as far as the draws scatter; features [N, F] each, [N]."""
        expected = self.mean(better) - self.mean(worse)
        scatter = (self._drawn(better) - self._drawn(worse)).std(1).clamp_min(1e-6)
        return torch.erf(expected / scatter / math.sqrt(2))

    def _drawn(self, features: Tensor) -> Tensor:
        """P(liked) by every draw, [N, D]."""
        points = self.coordinates(features)
        random = RandomFeatures(self.hyperparameters, points.answers.shape[1])(points)
        by_votes = kernel(points, self.judged, self.hyperparameters) @ self.draw_weights
        return self.prior + random @ self.prior_weights + by_votes

    def support(self, features: Tensor) -> Tensor:
        """How near the nearest judged answer is, [N]: 1 for one that was judged, 0 where nothing was."""
        return _nearest(self.likeness(features))

    def scores_and_support(self, features: Tensor, draw: int | None) -> tuple[Tensor, Tensor]:
        """P(liked) by that draw, by the mean if there is none, and support, for hardly more than one of them."""
        points = self.coordinates(features)
        likeness = kernel(points, self.judged, self.hyperparameters)
        if draw is None:
            return self.prior + likeness @ self.weights, _nearest(likeness)
        random = RandomFeatures(self.hyperparameters, points.answers.shape[1])(points)
        by_votes = likeness @ self.draw_weights[:, draw]
        drawn = self.prior + random @ self.prior_weights[:, draw] + by_votes
        return drawn, _nearest(likeness)

    def likeness(self, features: Tensor) -> Tensor:
        return kernel(self.coordinates(features), self.judged, self.hyperparameters)

    def state_dict(self) -> dict[str, Tensor]:
        """What `load` needs, as tensors by name."""
        return {
            "hyperparameters": self.hyperparameters.tensor(),
            "prompts": self.judged.prompts,
            "answers": self.judged.answers,
            "ages": self.judged.ages,
            "scale": torch.tensor([self.prior, self.amplitude], dtype=torch.float64),
            "weights": self.weights,
            "draw_weights": self.draw_weights,
            "prior_weights": self.prior_weights,
            **self.coordinates.tensors,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self | None:
        """From a state dict, which may hold other names besides; None where it holds none, or one of a
        release whose coordinates were others."""
        if not {"hyperparameters", *Coordinates.NAMES} <= state.keys():
            return None
        prior, amplitude = state["scale"].tolist()
        return cls(
            hyperparameters=Hyperparameters.of(state["hyperparameters"]),
            coordinates=Coordinates(state),
            judged=Points(state["prompts"], state["answers"], state["ages"]),
            prior=prior,
            amplitude=amplitude,
            weights=state["weights"],
            draw_weights=state["draw_weights"],
            prior_weights=state["prior_weights"],
        )


def _nearest(likeness: Tensor) -> Tensor:
    return likeness.amax(1).clamp(0, 1)
