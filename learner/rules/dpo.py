"""The `dpo` rule: direct preference optimisation of pairs of answers (Rafailov et al. 2023, Eq. 7).

A baseline to compare with, and the usual way to learn from corrections. A pair is a correction against
the answer that it corrects, or a liked against a disliked answer to the same prompt: the best of them
with the worst, the next with the next, each answer once.

    L = mean of -w * log sigmoid(beta * (log pi/pi_base (chosen|x) - log pi/pi_base (rejected|x)))

w is the weight of the less trusted half. `LABEL_SMOOTHING` is the share of pairs taken to be the wrong
way round (conservative DPO, Mitchell 2023); at zero it is the paper's loss.

See sequence_loss.py for the trainer's own KL penalty, which stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from burnish.learner.reward.experience import Experience
from burnish.learner.rules.base import NothingToLearn, StepBatch, StepConfig, TrainingData
from burnish.learner.rules.corrections import Pair
from burnish.learner.rules.kto import sigmoid
from burnish.learner.rules.sequence_loss import descending, read_in_batches, scored
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

LABEL_SMOOTHING = 0.0


def dpo_slopes(
    margins: Sequence[float],
    weights: Sequence[float],
    beta: float,
    label_smoothing: float = LABEL_SMOOTHING,
) -> list[float]:
    """dL/dlog pi of each chosen answer, given by how much its log-ratio exceeds the rejected one's; the
    rejected answer's is its negative."""
    return [
        weight * beta * (sigmoid(beta * margin) - (1 - label_smoothing)) / len(margins)
        for margin, weight in zip(margins, weights, strict=True)
    ]


class DPORule:
    def __init__(self, config: StepConfig, state: Mapping[str, Any]) -> None:
        self.config = config
        self._batches: list[list[Pair]] = []

    def prepare(self, policy: PolicySampler, data: TrainingData, seed: int) -> Mapping[str, float]:
        corrected = list(data.corrections)
        judged = list(liked_and_disliked(data.experience))
        if not corrected + judged:
            raise NothingToLearn(
                "nobody corrected an answer, and no prompt has a liked and a disliked answer"
            )
        size = max(1, self.config.rollouts // 2)
        self._batches = read_in_batches(corrected + judged, size, seed)
        return {"corrections": float(len(corrected)), "judged_pairs": float(len(judged))}

    def batch(self, policy: PolicySampler, step: int, seed: int) -> StepBatch | None:
        if step >= len(self._batches):
            return None
        picked = self._batches[step]
        answers = scored(policy, [p.chosen for p in picked] + [p.rejected for p in picked])
        ratios = [answer.log_ratio for answer in answers]
        margins = [c - r for c, r in zip(ratios[: len(picked)], ratios[len(picked) :], strict=True)]
        slopes = dpo_slopes(margins, [pair.weight for pair in picked], self.config.beta)
        return StepBatch(
            descending(
                [answer.rollout for answer in answers], [*slopes, *(-slope for slope in slopes)]
            ),
            {
                "margin": sum(margins) / len(margins),
                "preferred": sum(margin > 0 for margin in margins) / len(margins),
            },
        )

    def state_dict(self) -> dict[str, Any]:
        return {}


def liked_and_disliked(experience: Sequence[Experience]) -> Iterator[Pair]:
    """Liked against disliked answers to the same prompt, as far as there are of both."""
    by_prompt: dict[tuple[int, ...], list[Experience]] = defaultdict(list)
    for item in experience:
        by_prompt[item.prompt_ids].append(item)
    for prompt, group in by_prompt.items():
        ranked = sorted(group, key=lambda item: item.reward)
        for worse, better in zip(ranked, reversed(ranked), strict=True):
            if better.reward <= 0 or worse.reward >= 0:
                break
            if better.token_ids != worse.token_ids:
                yield Pair(
                    Rollout(prompt, better.token_ids, better.logprobs),
                    Rollout(prompt, worse.token_ids, worse.logprobs),
                    min(better.weight, worse.weight),
                )
