"""What judgements are worth: one number per answer, with how much it counts and where it is from.

Pure functions over standing judgements. The weight of each one comes from outside (trust/).

Values and weights are our choice, kept in the two tables below: an explicit judgement is worth far
more than what somebody did in passing, and silence is worth nothing. Where people have done both, the
learner fits the second to the first (learner/reward/signals.py). A correction says that the
answer was not good enough, mildly: people correct what was nearly right. A preference says which of two answers to
one prompt is better, and not that it is good: half a vote for the one and against the other. A comment is worth
nothing by itself: it says what was wrong (learner/rules/comments.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.feedback.judgements import Judgement, Worth


@dataclass(frozen=True)
class Reward:
    """`value` in [-1, 1]; `weight` in (0, 1]: how much it counts when it is learnt from, trust and
    shares included; `source`: the heaviest judgement, such as "thumbs" or "signal:copied"."""

    value: float
    weight: float
    source: str


SIGNALS: Mapping[str, Worth] = {
    "copied": Worth(+0.5, 0.2),
    "regenerated": Worth(-0.5, 0.2),
    "edited": Worth(-0.3, 0.15),
    "abandoned": Worth(-0.3, 0.1),
    "followup": Worth(0.0, 0.0),
}
CORRECTION = Worth(-0.5, 0.6)
PREFERENCES: Mapping[str, Worth] = {
    "better": Worth(+1.0, 0.5),
    "worse": Worth(-1.0, 0.5),
    "tie": Worth(0.0, 0.0),
}
EXPLICIT_WEIGHT = 1.0


def worth_of(judgement: Judgement) -> Worth | None:
    """One judgement by itself; None for one that says nothing about good or bad."""
    worth = judgement.worth or _worth_by_table(judgement)
    return worth if worth and worth.weight > 0 else None


def _worth_by_table(judgement: Judgement) -> Worth | None:
    match judgement.name:
        case "thumbs":
            return Worth(1.0 if judgement.value == "up" else -1.0, EXPLICIT_WEIGHT)
        case "score":
            return Worth(2.0 * float(judgement.value) - 1.0, EXPLICIT_WEIGHT)
        case "correction":
            return CORRECTION
        case "preference":
            return PREFERENCES.get(str(judgement.value))
        case "signal":
            return SIGNALS.get(str(judgement.value))
    return None


def reward_of(
    judgements: Sequence[Judgement], trust: Sequence[float] | None = None
) -> Reward | None:
    """The reward of one answer from its standing judgements, each with its trust in [0, 1].

    None if nothing was said that counts, or nobody who is trusted has said it.
    """
    trusts = [1.0] * len(judgements) if trust is None else trust
    total = weighted = heaviest = 0.0
    source = ""
    for judgement, trusted in zip(judgements, trusts, strict=True):
        worth = worth_of(judgement)
        if worth is None:
            continue
        weight = worth.weight * judgement.share * min(1.0, max(0.0, trusted))
        total += weight
        weighted += weight * worth.value
        if weight > heaviest:
            heaviest = weight
            signal = judgement.name == "signal"
            source = f"signal:{judgement.value}" if signal else judgement.name
    if total <= 0:
        return None
    return Reward(min(1.0, max(-1.0, weighted / total)), min(1.0, total), source)
