"""What people would think of a candidate's answers, by the reward model.

    left one user out   an answer to a user's prompt is judged by what all the others said, so that nobody's
                        votes praise what was learnt from them
    length controlled   the difference at equal length, by regression on the difference of lengths, since
                        longer answers are liked for being longer (Dubois et al. 2024, 2404.04475)
    cohorts             users are clustered by taste, and each cohort's votes alone judge all answers

Pure functions of features; left out: the answers themselves (logged.py).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from burnish.learner.reward.clusters import clustered
from burnish.learner.reward.fitting import FittedReward
from torch import Tensor

FEWEST_VOTES = 4  # of a user whose taste is looked at
FEWEST_USERS = 6  # in a cohort, on average
MOST_COHORTS = 3


@dataclass(frozen=True)
class Change:
    """A mean difference and its standard error."""

    mean: float
    error: float

    def lower(self, errors: float) -> float:
        return self.mean - errors * self.error


def left_out(
    fitted: FittedReward, raters: Sequence[Hashable], features: Tensor, users: Sequence[Hashable]
) -> Tensor:
    """P(liked) [M] of answers with features [M, 3H + MANNER], each by the votes of all but its user; `raters` [N] gave
    the votes. None, and whoever did not vote, leaves nobody out."""
    likeness = fitted.model.likeness(features)  # [M, N]
    found = fitted.model.prior + likeness @ fitted.model.weights
    rows: dict[Hashable, list[int]] = {}
    for row, rater in enumerate(raters):
        rows.setdefault(rater, []).append(row)
    asked = {user for user in users if user is not None and user in rows}
    inverse = torch.cholesky_inverse(fitted.cholesky) if asked else None
    for user in asked:
        assert inverse is not None
        theirs = torch.tensor([at for at, other in enumerate(users) if other == user])
        weights = weights_without(inverse, fitted.model.weights, torch.tensor(rows[user]))
        found[theirs] = fitted.model.prior + likeness[theirs] @ weights
    return found


def weights_without(inverse: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """The weights [N] of a fit without these votes, zero at them, from the whole one's and the inverse
    [N, N] of its covariance (block inversion)."""
    block = inverse[rows[:, None], rows[None, :]]
    fewer = weights - inverse[:, rows] @ torch.linalg.solve(block, weights[rows])
    fewer[rows] = 0.0
    return fewer


def at_equal_length(
    theirs: Sequence[float], ours: Sequence[float], lengths: Sequence[tuple[int, int]]
) -> Change:
    """The mean of ours - theirs where both are as long; `lengths` in tokens, theirs and ours."""
    change = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    longer = np.array([math.log(max(b, 1) / max(a, 1)) for a, b in lengths])
    columns = [np.ones_like(longer)] + ([longer] if np.ptp(longer) > 1e-6 else [])
    design = np.stack(columns, axis=1)
    solved, *_ = np.linalg.lstsq(design, change, rcond=None)
    free = max(1, len(change) - len(columns))
    variance = float(((change - design @ solved) ** 2).sum()) / free
    spread = np.linalg.pinv(design.T @ design)[0, 0]
    return Change(float(solved[0]), math.sqrt(variance * spread))


def cohorts(fitted: FittedReward, raters: Sequence[Hashable]) -> list[list[int]]:
    """The votes (rows) of each cohort of users alike in taste; none where too few voted often enough.

    A user's taste is the direction of what they liked more than was to be expected, among answers.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, rater in enumerate(raters):
        rows.setdefault(rater, []).append(row)
    users = sorted((u for u in rows if len(rows[u]) >= FEWEST_VOTES), key=str)
    count = min(MOST_COHORTS, len(users) // FEWEST_USERS)
    if count < 2:
        return []
    surprise = (fitted.targets - fitted.model.prior).double()
    answers = fitted.model.judged.answers.double()
    tastes = torch.stack(
        [(surprise[rows[user], None] * answers[rows[user]]).mean(0) for user in users]
    )
    tastes = tastes / tastes.norm(dim=1, keepdim=True).clamp_min(1e-9)
    labels = clustered(tastes, count).tolist()
    groups = [
        [
            row
            for user, label in zip(users, labels, strict=True)
            if label == number
            for row in rows[user]
        ]
        for number in range(count)
    ]
    return [group for group in groups if group]


def by_cohort(fitted: FittedReward, groups: Sequence[Sequence[int]], features: Tensor) -> Tensor:
    """P(liked) [cohorts, M] of answers with features [M, 3H + MANNER], by each cohort's votes alone."""
    if not groups:
        return torch.empty(0, len(features))
    likeness = fitted.model.likeness(features)
    inverse = torch.cholesky_inverse(fitted.cholesky)
    everyone = set(range(len(fitted.targets)))
    judged = []
    for group in groups:
        others = torch.tensor(sorted(everyone - set(group)))
        weights = weights_without(inverse, fitted.model.weights, others)
        judged.append(fitted.model.prior + likeness @ weights)
    return torch.stack(judged)
