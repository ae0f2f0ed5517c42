"""Whether judgements say anything that others' judgements bear out: a score test of the reward model's kernel.

The test of a variance component (Lin 1997): raters who judged alike answers agree more often than chance has
it, or they do not. Only judgements of different raters are compared, less what a rater says of everything, since
agreeing with oneself tells nothing of others. It needs no fit and nobody left out, and where tastes are many
and votes noisy it finds them sooner than AUROC over people left out (quality.py). How far a rater is believed plays no
part: that follows from agreement with all others, so that noise would bear itself out.
"""

from __future__ import annotations

import math

import torch
from burnish.learner.reward.evidence import Evidence
from burnish.serving.reward.kernel import Points, kernel
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

FEW_RATERS = 5  # with fewer, each judgement is held against all others, whoever gave them
ROWS = 1024  # that are compared with all others at once
SHRUNK = 4.0  # votes at everybody's mean, that a rater's own mean begins with
PRIOR_ODDS = 4.0  # that votes are worth learning from, before any is seen
TELLING = 700.0  # votes that raise the statistic by one, where each in five is wrong and tastes differ by topic
LEAST_WORTH = (
    0.5  # probability, below which nothing is learnt from votes: noise is the likelier then
)
MOST_EXPECTED = 3.0  # of the statistic, however many the votes: twice that of which half is enough


def score(evidence: Evidence, model: RewardModel) -> float:
    """The statistic: standard normal where judgements are noise, and the greater, the more they agree on answers
    that are alike to the model's kernel."""
    raters = {rater: number for number, rater in enumerate(dict.fromkeys(evidence.raters))}
    rater = torch.tensor([raters[name] for name in evidence.raters])
    residuals = _residuals(evidence, rater)
    if len(raters) < FEW_RATERS:
        rater = torch.arange(len(evidence))
    points = model.judged
    agreed = spread = 0.0
    for at in range(0, len(evidence), ROWS):
        rows = slice(at, at + ROWS)
        part = Points(points.prompts[rows], points.answers[rows], points.ages[rows])
        alike = kernel(part, points, model.hyperparameters)
        alike = alike.where(rater[rows, None] != rater[None, :], 0.0)
        agreed += float(residuals[rows] @ alike @ residuals)
        spread += float(2 * (residuals[rows].square() @ alike.square() @ residuals.square()))
    return agreed / math.sqrt(spread) if spread else 0.0


def worth(score: float, votes: float) -> float:
    """How probable it is, in [0, 1], that so many votes with that statistic are worth learning from.

    By Bayes' rule, between votes that raise the statistic as they usually do and votes that are noise. A few
    tell neither, so the prior speaks; of thousands, the statistic does.
    """
    expected = min(votes / TELLING, MOST_EXPECTED)
    log_odds = math.log(PRIOR_ODDS) + expected * (score - expected / 2)
    return 1 / (1 + math.exp(min(50.0, -log_odds)))


def _residuals(evidence: Evidence, rater: Tensor) -> Tensor:
    """The targets less their rater's mean, as far as they are heard, [N]."""
    heard, targets = evidence.heard, evidence.targets
    mean = (targets * heard).sum() / heard.sum().clamp_min(1e-6)
    count = int(rater.max()) + 1
    sums = torch.zeros(count).index_add(0, rater, (targets - mean) * heard)
    own = sums / (torch.zeros(count).index_add(0, rater, heard) + SHRUNK)
    return heard * (targets - mean - own[rater])
