"""How well judgements are foretold that a reward model has not seen: AUROC over people left out.

Users are put into folds, and each fold is foretold by the others' judgements. Only judgements of one fold
are compared with each other, since leaving a fold out also shifts what is expected of all of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from burnish.learner.reward.fitting import FittedReward
from torch import Tensor

FOLDS = 5


@dataclass(frozen=True)
class Quality:
    """`auroc` (0.5 is guessing) and its standard error; over no pair they are .5 and .5."""

    auroc: float = 0.5
    error: float = 0.5

    @property
    def lower(self) -> float:
        """What it is at least, but for one time in six."""
        return self.auroc - self.error


def foretold(fitted: FittedReward, raters: Sequence[Hashable], seed: int = 0) -> Quality:
    """The quality of a fit on the judgements of raters who were left out of it."""
    order = sorted(set(raters), key=str)
    Random(seed).shuffle(order)
    fold_of = {rater: index % FOLDS for index, rater in enumerate(order)}
    folds = [fold_of[rater] for rater in raters]
    scores, targets = fitted.left_out(folds), fitted.targets
    inside = torch.tensor(folds)
    return mean_quality([quality(scores[inside == f], targets[inside == f]) for f in range(FOLDS)])


def quality(scores: Tensor, targets: Tensor) -> Quality | None:
    """AUROC with the standard error of DeLong et al. 1988; None without a pair to compare."""
    likes, dislikes = scores[targets > 0.5], scores[targets < 0.5]
    if len(likes) < 2 or len(dislikes) < 2:
        return None
    difference = likes[:, None] - dislikes[None, :]
    wins = (difference > 0).float() + 0.5 * (difference == 0).float()
    error = (wins.mean(1).var() / len(likes) + wins.mean(0).var() / len(dislikes)).sqrt()
    return Quality(float(wins.mean()), float(error))


def mean_quality(parts: Sequence[Quality | None]) -> Quality:
    known = [part for part in parts if part is not None]
    if not known:
        return Quality()
    error = sum(part.error**2 for part in known) ** 0.5 / len(known)
    return Quality(sum(part.auroc for part in known) / len(known), error)
