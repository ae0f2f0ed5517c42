"""Fitting the reward model to judgements: exact inference, draws, and what it foretells of the unseen.

A judgement of half the weight has twice the noise. Exact inference takes about two seconds at the 6,144
judgements it is meant for (Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.marginal_likelihood import aged, amplitude, fit_hyperparameters
from burnish.serving.reward.kernel import Coordinates, Hyperparameters, kernel, variance
from burnish.serving.reward.prior import RandomFeatures
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

DRAWS = 64


@dataclass(frozen=True)
class FittedReward:
    """A reward model with what only its fit knows: the targets [N], and the Cholesky factor [N, N] of the
    votes' covariance in units of the kernel."""

    model: RewardModel
    targets: Tensor
    cholesky: Tensor

    def deviation(self, features: Tensor) -> Tensor:
        """Posterior standard deviation of P(liked), [M]."""
        model = self.model
        likeness = model.likeness(features).T
        solved = torch.linalg.solve_triangular(self.cholesky, likeness, upper=False)
        whole = variance(model.coordinates(features), model.hyperparameters)
        return model.amplitude * (whole - solved.square().sum(0)).clamp_min(0).sqrt()

    def left_out(self, groups: Sequence[Hashable]) -> Tensor:
        """P(liked) [N] of each judged answer by a fit without the judgements of its group.

        In closed form (Rasmussen and Williams, equation 5.12, for blocks).
        """
        inverse = torch.cholesky_inverse(self.cholesky)
        of_group: dict[Hashable, list[int]] = {}
        for row, group in enumerate(groups):
            of_group.setdefault(group, []).append(row)
        foretold = torch.empty_like(self.targets)
        for rows in of_group.values():
            index = torch.tensor(rows)
            block = inverse[index[:, None], index[None, :]]
            foretold[index] = self.targets[index] - torch.linalg.solve(
                block, self.model.weights[index]
            )
        return foretold


def learn(evidence: Evidence, before: RewardModel | None = None, *, seed: int = 0) -> FittedReward:
    """Fit hyperparameters, starting from those of the model `before`, then the model."""
    start = before.hyperparameters if before else Hyperparameters()
    found = fit_hyperparameters(evidence, start)
    return fit(evidence, aged(evidence, found), found, seed=seed)


def fit(
    evidence: Evidence, ages: Tensor, hyperparameters: Hyperparameters, *, seed: int = 0
) -> FittedReward:
    """Fit with given hyperparameters to judgements given so many judgements ago, [N]."""
    targets, weights, prior = evidence.targets, evidence.weights, evidence.mean
    coordinates = Coordinates.fit(evidence.features)
    points = coordinates(evidence.features, ages)
    noise = hyperparameters.noise / weights.clamp_min(1e-3)
    cholesky = torch.linalg.cholesky(kernel(points, points, hyperparameters) + noise.diag())
    unit = float(amplitude(targets - prior, weights, hyperparameters))
    # Matheron's rule: a draw of the prior, and the part of the votes that it does not explain.
    generator = torch.Generator().manual_seed(seed)
    random = RandomFeatures(hyperparameters, points.answers.shape[1])
    prior_weights = unit * random.weights(generator, DRAWS)
    errors = unit * noise.sqrt()[:, None] * torch.randn(len(targets), DRAWS, generator=generator)
    unexplained = (targets - prior)[:, None] - random(points) @ prior_weights - errors
    return FittedReward(
        RewardModel(
            hyperparameters=hyperparameters,
            coordinates=coordinates,
            judged=points,
            prior=prior,
            amplitude=unit,
            weights=torch.cholesky_solve((targets - prior)[:, None], cholesky)[:, 0],
            draw_weights=torch.cholesky_solve(unexplained, cholesky),
            prior_weights=prior_weights,
        ),
        targets,
        cholesky,
    )
