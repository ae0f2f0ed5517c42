"""Partial pooling: what each family's change probably is, given the changes of all.

A normal model with two levels: families' true changes spread around one mean, and what was seen of a family
around its own. A family with few tasks is thought to be like the others; one with many speaks for itself
(Gelman and Hill 2007, chapter 12). The spread is estimated by moments (DerSimonian and Laird 1986).

The gate bets by these guesses (sequential.py), so it needs fewer tasks where families are alike, and its
bounds hold where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from burnish.learner.gate.sequential import Guess

FIRST = Guess(0.0, 0.25)  # of a paired difference, before anything was seen
OBSERVATIONS = 8  # that the pooled variance counts for in each family's own
LEAST_SPREAD = 0.02  # standard deviation of true changes between families


@dataclass(frozen=True)
class Seen:
    """The paired differences of one family so far: their number, sum and sum of squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, observed: Sequence[float]) -> Seen:
        return Seen(
            self.count + len(observed),
            self.total + sum(observed),
            self.squares + sum(value * value for value in observed),
        )

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def scatter(self) -> float:
        """Sum of squares around the mean."""
        return max(0.0, self.squares - self.count * self.mean**2)


def pooled(families: Sequence[Seen]) -> list[Guess]:
    """A guess for each family, in order."""
    counts = np.array([family.count for family in families], dtype=float)
    means = np.array([family.mean for family in families])
    scatter = np.array([family.scatter for family in families])
    common = (scatter.sum() + OBSERVATIONS * FIRST.variance) / (
        np.maximum(counts - 1, 0).sum() + OBSERVATIONS
    )
    variances = (scatter + OBSERVATIONS * common) / (np.maximum(counts - 1, 0) + OBSERVATIONS)
    precisions = counts / variances
    spread = _spread(means, precisions)
    weights = 1 / (1 / np.maximum(precisions, 1e-9) + spread)
    # The prior says, with the weight of one family, that nothing has changed.
    centre = float((weights * means).sum() / (weights.sum() + 1 / (common + spread)))
    posterior = (precisions * means + centre / spread) / (precisions + 1 / spread)
    return [Guess(float(m), float(v)) for m, v in zip(posterior, variances, strict=True)]


def whole(families: Sequence[Seen]) -> Guess:
    """A guess for a task of any of them."""
    count = sum(family.count for family in families)
    total = Seen(count, sum(f.total for f in families), sum(f.squares for f in families))
    variance = (total.scatter + OBSERVATIONS * FIRST.variance) / (count + OBSERVATIONS)
    return Guess(total.total / (count + OBSERVATIONS), variance)


def _spread(means: np.ndarray, precisions: np.ndarray) -> float:
    """The variance of true changes between families."""
    weight = precisions.sum()
    if not weight:
        return LEAST_SPREAD**2
    centre = (precisions * means).sum() / weight
    excess = (precisions * (means - centre) ** 2).sum() - (np.count_nonzero(precisions) - 1)
    scale = weight - (precisions**2).sum() / weight
    return max(LEAST_SPREAD**2, float(excess / scale) if scale > 0 else 0.0)
