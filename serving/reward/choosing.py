"""Which of several candidates for an answer are given: those that the reward model likes best.

A candidate counts only where the model can judge it: where it is about as likely as the others, so that an
answer that has lost its way is not chosen for its style, and near enough to what people have judged. Left
out: where scores come from (reward_model.py), and sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MARGIN = 0.5  # nats per token below the group's median
# Of the group's best. Of ember's answers .4 % lie below it after 512 votes, of answers to something else half. At .5 it
# kept out one in thirteen, which nobody had tried yet, and 1,024 votes brought the best of eight .07 less far.
SUPPORT = 0.25


@dataclass(frozen=True)
class Candidate:
    """What is known of one. `logprob`: mean per token, under the policy that sampled it; `score`: P(liked)
    as the model expects it or by a draw; `support`: how near the nearest judged answer is."""

    finished: bool
    logprob: float
    score: float = 0.0
    support: float = 0.0


def counting(candidates: Sequence[Candidate]) -> list[bool]:
    """Which of them may be chosen for their score."""
    usual = median(one.logprob for one in candidates)
    nearest = max(one.support for one in candidates)
    return [
        one.logprob >= usual - MARGIN and one.support >= SUPPORT * nearest for one in candidates
    ]


def ranked(candidates: Sequence[Candidate]) -> list[int]:
    """Their places, the best first: finished ones before those that were cut off; among either first those
    that count, by their score, then the others as they were sampled."""
    counts = counting(candidates)

    def rank(place: int) -> tuple[bool, bool, float, int]:
        one = candidates[place]
        return not one.finished, not counts[place], -one.score if counts[place] else 0.0, place

    return sorted(range(len(candidates)), key=rank)
