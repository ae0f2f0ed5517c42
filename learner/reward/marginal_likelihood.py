"""Hyperparameters of the reward model by marginal likelihood: how well they foretell the votes there are.

Maximum a posteriori: the log evidence (Rasmussen and Williams, Gaussian Processes for Machine Learning,
algorithm 2.1) plus a normal prior on the logarithm of each, so that few votes leave the defaults as they
are. A second test asks for a change point: a vote since which tastes are others (Garnett et al. 2010).
"""

from __future__ import annotations

import torch
from burnish.learner.reward.evidence import Evidence
from burnish.serving.reward.kernel import Coordinates, Hyperparameters, Points, kernel
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

ROWS = 1024  # that the evidence is computed from
ITERATIONS = 12
# Standard deviations of the prior on the logarithms, in the order of `Hyperparameters`.
DOUBT = (0.4, 0.3, 0.7, 1.5, 1.5, 2.0)
FIRST_CHANGE = 64  # votes ago, then twice as many, and so on
CHANGE_GAIN = 6.0  # of log evidence, that a change point must bring
OLD = 1e9  # votes; older than that tells nothing


def fit_hyperparameters(evidence: Evidence, start: Hyperparameters) -> Hyperparameters:
    """The most probable hyperparameters, sought from `start`; `start` where the search fails."""
    rows = _rows(evidence)
    points, residuals, weights = _part(evidence, rows)
    default = Hyperparameters().tensor().log()
    doubt = torch.tensor(DOUBT, dtype=torch.float64)
    logs = start.tensor().log().requires_grad_(True)
    optimiser = torch.optim.LBFGS([logs], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = Hyperparameters(*logs.exp().float().unbind())  # type: ignore[arg-type]
        surprise = -log_evidence(points, residuals, weights, found)
        total = surprise.double() + (((logs - default) / doubt) ** 2).sum() / 2
        total.backward()
        return total

    try:
        optimiser.step(loss)
    except RuntimeError:  # LinAlgError: a line search may try a covariance that has no factor
        return start
    return Hyperparameters.of(logs.detach().exp())


def aged(evidence: Evidence, of: Hyperparameters) -> Tensor:
    """The judgements' ages [N]; those from before a change of tastes are too old to tell anything."""
    ages = evidence.ages
    rows = _rows(evidence)
    points, residuals, weights = _part(evidence, rows)
    ago = change_point(points, residuals, weights, of)
    return ages if ago is None else _apart(ages, ago)


def has_outdated(model: RewardModel) -> bool:
    """Whether some of what a model is fitted to is from before a change of tastes."""
    return bool((model.judged.ages >= OLD).any())


def log_evidence(points: Points, residuals: Tensor, weights: Tensor, of: Hyperparameters) -> Tensor:
    """Of residuals [N] of votes, up to a constant."""
    covariance = kernel(points, points, of) + (of.noise / weights.clamp_min(1e-3)).diag()
    cholesky = torch.linalg.cholesky(covariance)
    solved = torch.cholesky_solve(residuals[:, None], cholesky)[:, 0]
    unit = amplitude(residuals, weights, of) ** 2
    misfit = residuals @ solved / unit + len(residuals) * unit.log()
    return -misfit / 2 - cholesky.diagonal().log().sum()


def amplitude(residuals: Tensor, weights: Tensor, of: Hyperparameters) -> Tensor:
    """The kernel's unit, as a standard deviation of P(liked): what noise leaves of the votes' variance."""
    whole = (residuals.square() * weights).sum() / weights.sum().clamp_min(1e-6)
    return (whole.clamp_min(1e-6) / (1 + 2 * of.alone + of.noise)) ** 0.5


def change_point(
    points: Points, residuals: Tensor, weights: Tensor, of: Hyperparameters
) -> int | None:
    """How many votes ago tastes changed; None if the votes do not say that they did."""
    before = log_evidence(points, residuals, weights, of)
    gains: dict[int, float] = {}
    ago = FIRST_CHANGE
    while ago < points.ages.max():
        apart = Points(points.prompts, points.answers, _apart(points.ages, ago))
        gains[ago] = float(log_evidence(apart, residuals, weights, of) - before)
        ago *= 2
    best = max(gains, key=gains.__getitem__, default=None)
    return best if best is not None and gains[best] > CHANGE_GAIN else None


def _apart(ages: Tensor, ago: int) -> Tensor:
    return torch.where(ages >= ago, ages + OLD, ages)


def _part(evidence: Evidence, rows: Tensor) -> tuple[Points, Tensor, Tensor]:
    """Points, residuals and weights of some rows."""
    coordinates = Coordinates.fit(evidence.features)
    points = coordinates(evidence.features[rows], evidence.ages[rows])
    return points, evidence.targets[rows] - evidence.mean, evidence.weights[rows]


def _rows(evidence: Evidence) -> Tensor:
    """Half of them the latest, the others spread evenly over the rest; of votes that count little none,
    since they are no noisier than others, only less to be believed."""
    order = evidence.ages.argsort()
    order = order[evidence.weights[order] >= _weighted_median(evidence.weights) / 2]
    if len(order) <= ROWS:
        return order
    rest = order[ROWS // 2 :]
    spread = torch.linspace(0, len(rest) - 1, ROWS - ROWS // 2).round().long()
    return torch.cat([order[: ROWS // 2], rest[spread]])


def _weighted_median(weights: Tensor) -> Tensor:
    """Votes that weigh more than this make up half of all weight, however many weigh little."""
    rising = weights.sort().values
    sums = rising.cumsum(0)
    return rising[int((sums < sums[-1] / 2).sum())]
