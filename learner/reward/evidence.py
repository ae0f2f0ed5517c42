"""Hyperparameters of the reward model by marginal likelihood: how well they foretell the votes there are.

Maximum a posteriori: the log evidence (Rasmussen and Williams, algorithm 2.1, its amplitude at its best)
plus a normal prior on the logarithm of each, so that few votes leave the defaults as they are. A second
test asks for a change point: a vote since which tastes are others (Osborne et al. 2010).
"""

from __future__ import annotations

import math

import torch
from burnish.serving.reward.kernel import Coordinates, Hyperparameters, Points, kernel
from torch import Tensor

ROWS = 1024  # that the evidence is computed from
ITERATIONS = 12
# Standard deviations of the prior on the logarithms, in the order of `Hyperparameters`.
DOUBT = (0.4, 0.2, 0.7, 1.5, 0.7, 2.0)
CHANGE_POINTS = (64, 128, 256, 512, 1024)  # votes ago
CHANGE_GAIN = 6.0  # of log evidence, that a change point must bring


def fit_hyperparameters(
    features: Tensor, targets: Tensor, weights: Tensor, ages: Tensor, start: Hyperparameters
) -> Hyperparameters:
    """The most probable hyperparameters, sought from `start`, with the votes' features [N, 3H], targets,
    weights and ages [N]."""
    rows = _rows(ages)
    points = Coordinates.fit(features)(features[rows], ages[rows])
    residuals = targets[rows] - (targets[rows] * weights[rows]).sum() / weights[rows].sum()
    default = Hyperparameters().tensor().log()
    doubt = torch.tensor(DOUBT, dtype=torch.float64)
    logs = start.tensor().log().requires_grad_(True)
    optimiser = torch.optim.LBFGS([logs], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = Hyperparameters(*logs.exp().float().unbind())  # type: ignore[arg-type]
        surprise = -log_evidence(points, residuals, weights[rows], found)
        total = surprise.double() + (((logs - default) / doubt) ** 2).sum() / 2
        total.backward()
        return total

    optimiser.step(loss)
    return Hyperparameters.of(logs.detach().exp())


def log_evidence(
    points: Points, residuals: Tensor, weights: Tensor, of: Hyperparameters
) -> Tensor:
    """Of residuals [N] of votes, up to a constant, with the kernel's amplitude at its best."""
    covariance = kernel(points, points, of) + (of.noise / weights.clamp_min(1e-3)).diag()
    cholesky = torch.linalg.cholesky(covariance)
    solved = torch.cholesky_solve(residuals[:, None], cholesky)[:, 0]
    count = len(residuals)
    squared = (residuals @ solved / count).clamp_min(1e-12)
    return -count / 2 * squared.log() - cholesky.diagonal().log().sum()


def change_point(
    points: Points, residuals: Tensor, weights: Tensor, of: Hyperparameters
) -> int | None:
    """How many votes ago tastes changed; None if the votes do not say that they did."""
    before = log_evidence(points, residuals, weights, of)
    gains = {
        ago: float(log_evidence(_apart(points, ago), residuals, weights, of) - before)
        for ago in CHANGE_POINTS
        if ago < len(residuals) / 2
    }
    best = max(gains, key=gains.__getitem__, default=None)
    return best if best is not None and gains[best] > CHANGE_GAIN else None


def _apart(points: Points, ago: int) -> Points:
    """The same with the votes before `ago` so old that they say nothing about those after."""
    old = points.ages >= ago
    return Points(points.prompts, points.answers, torch.where(old, points.ages + 1e9, points.ages))


def _rows(ages: Tensor) -> Tensor:
    """Half of them the latest, the others spread evenly over the rest."""
    order = ages.argsort()
    if len(order) <= ROWS:
        return order
    rest = order[ROWS // 2 :]
    spread = torch.linspace(0, len(rest) - 1, ROWS - ROWS // 2).round().long()
    return torch.cat([order[: ROWS // 2], rest[spread]])
