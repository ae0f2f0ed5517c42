"""Best of n as serving chooses (serving/api/best_of.py), for answers that were sampled here."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean

from burnish.ops.bench.lib.learning_loop import Answer
from burnish.serving.reward.choosing import Candidate, ranked
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor


def chosen(reward: RewardModel, answers: Sequence[Answer], features: Tensor, seed: int) -> int:
    """The place of the candidate that serving would give to a request of that seed; features [N, 3H]."""
    draw = random.Random(f"draw {seed}").randrange(reward.draws)
    scores, support = reward.draw_and_support(features, draw)
    candidates = [
        Candidate(
            finished=answer.finish_reason == "stop",
            logprob=fmean(answer.rollout.logprobs) if answer.rollout.token_ids else -math.inf,
            score=score,
            support=near,
        )
        for answer, score, near in zip(answers, scores.tolist(), support.tolist(), strict=True)
    ]
    return ranked(candidates)[0]
