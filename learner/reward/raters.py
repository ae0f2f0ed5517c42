"""Whom to believe: judgements weighed by what others' judgements let expect of each answer.

What a rater's votes are held against is foretold by a reward model fitted without that rater, to votes of
the same time; and that model is fitted to votes as far as they are believed, so the two are found in turn.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch
from burnish.feedback.rewards import worth_of
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Vote, votes_among
from burnish.feedback.trust.weighing import Weights, weigh
from burnish.learner.reward.clusters import clustered
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.reward.fitting import fit
from burnish.learner.reward.marginal_likelihood import aged
from burnish.serving.reward.kernel import Coordinates, Hyperparameters
from torch import Tensor

ROUNDS = 2  # of believing and foretelling
ROWS = 2048  # votes that are foretold together: those of one time explain each other
FEW = 32  # votes, below which nothing is foretold
KINDS, KIND_ROWS = 24, 64  # kinds of prompts at most, and answers to each at least, on average


def believe(
    answers: Sequence[JudgedAnswer],
    features: Tensor,
    hyperparameters: Hyperparameters,
    policy: TrustPolicy | None = None,
) -> Weights:
    """The weights of all judgements on these answers, one after another; features [N, 3H + MANNER]."""
    judgements = [judgement for answer in answers for judgement in answer.judgements]
    rows = [row for row, answer in enumerate(answers) for _ in answer.judgements]
    of_answers = kinds_of_prompts(features)
    kinds = [of_answers[row] for row in rows]
    votes = sorted(votes_among(judgements), key=lambda vote: (vote.judgement.time, vote.index))
    weights = weigh(judgements, None, policy, kinds=kinds)
    if len(votes) < FEW:
        return weights
    for _ in range(ROUNDS):
        expected: list[float | None] = [None] * len(judgements)
        for part in _parts(votes):
            told = foretold(part, features[[rows[v.index] for v in part]], weights, hyperparameters)
            for vote, value in zip(part, told, strict=True):
                expected[vote.index] = value
        weights = weigh(judgements, expected, policy, kinds=kinds)
    return weights


def foretold(
    votes: Sequence[Vote], features: Tensor, weights: Weights, hyperparameters: Hyperparameters
) -> list[float]:
    """The value in [-1, 1] expected of the answer of each vote by a fit without its rater's votes."""
    raters = [vote.rater if vote.rater is not None else vote.index for vote in votes]
    evidence = Evidence(
        features,
        torch.tensor([(vote.value + 1) / 2 for vote in votes]),
        torch.tensor([_weight(vote, weights) for vote in votes]),
        raters,
    )
    fitted = fit(evidence, aged(evidence, hyperparameters), hyperparameters)
    return (2 * fitted.left_out(raters) - 1).clamp(-1, 1).tolist()


def kinds_of_prompts(features: Tensor) -> list[Hashable]:
    """Which kind of prompts each answer's is of: clusters of the prompts as the kernel sees them."""
    count = max(1, min(KINDS, len(features) // KIND_ROWS))
    return list(clustered(Coordinates.fit(features)(features).prompts, count).tolist())


def _parts(votes: Sequence[Vote]) -> Iterator[Sequence[Vote]]:
    """Votes of one time together: as few parts of ROWS at most as it takes, all about as long."""
    count = -(-len(votes) // ROWS)
    for part in range(count):
        yield votes[part * len(votes) // count : (part + 1) * len(votes) // count]


def _weight(vote: Vote, weights: Weights) -> float:
    """How much a vote says of its answer; what is not believed at all says hardly anything."""
    worth = worth_of(vote.judgement)
    assert worth is not None, "a vote is worth something"
    return max(1e-3, worth.weight * vote.judgement.share * weights.weights[vote.index])
