"""How well judgements are foretold that a reward model has not seen: AUROC over people left out.

Users are put into folds, and each fold is foretold by the others' judgements. Only judgements of one fold
are compared with each other, since leaving a fold out also shifts what is expected of all of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import FittedReward, fit
from torch import Tensor

FOLDS, FOLD_ROWS = 5, 20  # at most, and judgements in each at least


@dataclass(frozen=True)
class Quality:
    """`auroc` (0.5 is guessing) and its standard error; over no pair they are .5 and .5."""

    auroc: float = 0.5
    error: float = 0.5

    @property
    def lower(self) -> float:
        """What it is at least, but for one time in six."""
        return self.auroc - self.error


def measured(evidence: Evidence, fitted: FittedReward, seed: int = 0) -> Quality:
    """The quality of a reward model on raters who were left out of it, where every judgement counts alike, as far
    as caps let it be heard.

    How far a rater is believed follows from agreement with all others: with these weights those who are
    left out would have had a say, and noise would foretell itself.
    """
    alike = replace(evidence, weights=evidence.heard)
    model = fitted.model
    fitted = fit(alike, model.judged.ages, model.hyperparameters)
    return foretold(fitted, evidence.raters, seed, evidence.heard)


def foretold(
    fitted: FittedReward,
    raters: Sequence[Hashable],
    seed: int = 0,
    weights: Tensor | None = None,
) -> Quality:
    """The quality of a fit on the judgements of raters who were left out of it, or, where there are fewer
    raters than folds, on judgements that were; each counts by its weight [N]."""
    fold = fold_of(raters, seed)
    scores, targets, inside = fitted.left_out(fold), fitted.targets, torch.tensor(fold)
    weights = torch.ones(len(targets)) if weights is None else weights
    parts = [inside == number for number in set(fold)]
    return mean_quality([quality(scores[at], targets[at], weights[at]) for at in parts])


def fold_of(raters: Sequence[Hashable], seed: int = 0) -> list[int]:
    """The fold of each judgement: one for all of a rater's; where there are fewer raters than folds, each
    by itself."""
    folds = min(FOLDS, max(2, len(raters) // FOLD_ROWS))
    if len(set(raters)) < folds:
        raters = range(len(raters))
    order = sorted(set(raters), key=str)
    Random(seed).shuffle(order)
    found = {rater: index % folds for index, rater in enumerate(order)}
    return [found[rater] for rater in raters]


def quality(scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Quality | None:
    """AUROC with the standard error it would have by guessing (Mann and Whitney 1947); None without a pair
    to compare. With weights [N] a pair counts by their product, and as many as are of equal worth (Kish's
    effective sample size) tell the error."""
    weights = torch.ones(len(scores)) if weights is None else weights
    liked, disliked = (targets > 0.5) & (weights > 0), (targets < 0.5) & (weights > 0)
    if not liked.any() or not disliked.any():
        return None
    ours, theirs = weights[liked], weights[disliked]
    difference = scores[liked][:, None] - scores[disliked][None, :]
    wins = (difference > 0).float() + 0.5 * (difference == 0).float()
    auroc = ours @ wins @ theirs / (ours.sum() * theirs.sum())
    up, down = (float(of.sum() ** 2 / of.square().sum()) for of in (ours, theirs))
    return Quality(float(auroc), ((up + down + 1) / (12 * up * down)) ** 0.5)


def mean_quality(parts: Sequence[Quality | None]) -> Quality:
    known = [part for part in parts if part is not None]
    if not known:
        return Quality()
    # Twice the variance of parts that know nothing of each other: each two foretell one another by the same
    # products of judgements, so by chance they are right together.
    error = (2 * sum(part.error**2 for part in known)) ** 0.5 / len(known)
    return Quality(sum(part.auroc for part in known) / len(known), error)
