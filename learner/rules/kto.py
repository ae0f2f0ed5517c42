"""The `kto` rule: Kahneman-Tversky optimisation of single judged answers (Ethayarajh et al. 2024, Eq. 7).

A baseline to compare with. Thumbs and scores are judgements of single answers, and this is the usual way
to learn from them offline:

    L = mean of w * lambda * (1 - sigmoid(+-beta * (log pi/pi_base (y|x) - z)))

with + for liked answers and - for disliked ones. w is the judgement's weight and how far its reward is
from indifference, one for a plain thumb. z estimates KL(pi, pi_base) from the batch's prompts with each
other's answers, as TRL's KTOTrainer does: the mean log-ratio, at least zero, without a gradient. Of liked
and disliked answers the rarer side's lambda is raised until both sides weigh the same, which is the lower
end of the paper's range (Eq. 8); the other lambda is one.

The log may be of any version: only the present weights and the base enter. See sequence_loss.py for the
trainer's own KL penalty, which stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.learner.reward.experience import Experience
from burnish.learner.rules.base import NothingToLearn, StepBatch, StepConfig, TrainingData
from burnish.learner.rules.sequence_loss import ScoredAnswer, descending, read_in_batches, scored
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler


@dataclass(frozen=True)
class Lambdas:
    """The weights of the losses of desirable and undesirable answers."""

    desirable: float = 1.0
    undesirable: float = 1.0

    @classmethod
    def balancing(cls, liked: int, disliked: int) -> Lambdas:
        """Those that give both sides the same weight; both one where a side is empty."""
        if not liked or not disliked:
            return cls()
        return cls(max(1.0, disliked / liked), max(1.0, liked / disliked))


def kto_slopes(
    log_ratios: Sequence[float],
    rewards: Sequence[float],
    kl: float,
    beta: float,
    lambdas: Lambdas,
) -> list[float]:
    """dL/dlog pi of each answer. The sign of a reward says whether it was liked, its size the weight."""
    slopes = []
    for log_ratio, reward in zip(log_ratios, rewards, strict=True):
        value = sigmoid(beta * (log_ratio - kl))
        weight = lambdas.desirable if reward > 0 else lambdas.undesirable
        slopes.append(-reward * weight * beta * value * (1 - value) / len(log_ratios))
    return slopes


class KTORule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._batches: list[list[Experience]] = []
        self._lambdas = Lambdas()

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        log = [e for e in data.experience if e.reward]
        if not log:
            raise NothingToLearn("no answer was judged to be good or bad")
        self._batches = read_in_batches(log, self.config.rollouts, seed)
        liked = sum(e.reward > 0 for e in log)
        self._lambdas = Lambdas.balancing(liked, len(log) - liked)
        return {"log": float(len(log)), "liked": liked / len(log)}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch | None:
        if step >= len(self._batches):
            return None
        picked = self._batches[step]
        answers = scored(policy, [Rollout(e.prompt_ids, e.token_ids, e.logprobs) for e in picked])
        kl = self._kl(policy, [answer.rollout for answer in answers])
        slopes = kto_slopes(
            [answer.log_ratio for answer in answers],
            [e.weight * e.reward for e in picked],
            kl,
            self.config.beta,
            self._lambdas,
        )
        return StepBatch(
            descending([answer.rollout for answer in answers], slopes),
            {"kto_kl": kl, "margin": _margin(answers, picked)},
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def _kl(self, policy: PolicySampler, answers: Sequence[Rollout]) -> float:
        """z, from each prompt with the answer to the one before it; cut to what the model can read."""
        room = policy.model.max_model_len
        mismatched = [
            Rollout(asked.prompt_ids, other.token_ids[: room - len(asked.prompt_ids)], ())
            for asked, other in zip(answers, [answers[-1], *answers[:-1]], strict=True)
        ]
        found = scored(policy, mismatched)
        return max(0.0, sum(answer.log_ratio for answer in found) / len(found))


def _margin(answers: Sequence[ScoredAnswer], judged: Sequence[Experience]) -> float:
    """By how much the mean log-ratio of liked answers is above that of disliked ones, in nats."""
    sides: dict[bool, list[float]] = {True: [], False: []}
    for answer, experience in zip(answers, judged, strict=True):
        sides[experience.reward > 0].append(answer.log_ratio)
    liked, disliked = (sum(side) / len(side) if side else 0.0 for side in sides.values())
    return liked - disliked


def sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
