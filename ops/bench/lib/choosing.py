"""Best of n as serving chooses (serving/api/best_of.py), among answers that were sampled here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from burnish.kernels.model import LoadedModel
from burnish.ops.bench.lib.learning_loop import Answer
from burnish.serving.api.best_of import FINISHED, draw_of
from burnish.serving.reward.choosing import Candidate, ranked
from burnish.serving.reward.features import base_features
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor


def chosen(reward: RewardModel, answers: Sequence[Answer], features: Tensor, seed: int) -> int:
    """The place of the candidate that serving would give for a request of that seed with
    `best_of=len(answers)` (serving/api/best_of.py); features [N, 3H + MANNER]."""
    scores, support = reward.scores_and_support(features, draw_of(seed, reward.draws))
    candidates = [
        Candidate(
            finished=answer.finish_reason in FINISHED,
            logprob=fmean(answer.rollout.logprobs) if answer.rollout.token_ids else -math.inf,
            score=score if answer.rollout.token_ids else 0.0,
            support=near if answer.rollout.token_ids else 0.0,
        )
        for answer, score, near in zip(answers, scores.tolist(), support.tolist(), strict=True)
    ]
    return ranked(candidates)[0]


def given_of(
    model: LoadedModel, reward: RewardModel | None, given: Sequence[Sequence[Answer]], seed: int
) -> list[Answer]:
    """What serving would give of each prompt's candidates, for requests of seeds from this one on; the first,
    without a reward model."""
    if reward is None:
        return [candidates[0] for candidates in given]
    features = features_of(model, given).split([len(candidates) for candidates in given])
    return [
        candidates[chosen(reward, candidates, of_them, seed + number)]
        for number, (candidates, of_them) in enumerate(zip(given, features, strict=True))
    ]


def features_of(model: LoadedModel, given: Sequence[Sequence[Answer]]) -> Tensor:
    """The reward model's features [prompts * samples, 3H + MANNER]."""
    rollouts = [answer.rollout for answer in flattened(given)]
    # An answer without a token has none: it passes for one that repeats the prompt's last.
    return base_features(
        model, [(r.prompt_ids, r.token_ids or r.prompt_ids[-1:]) for r in rollouts]
    )


def flattened(given: Sequence[Sequence[Answer]]) -> list[Answer]:
    return [answer for answers in given for answer in answers]
