"""What judgements are worth: one number per answer, with how much it counts and where it is from.

Pure functions over plain rows. Who is believed how much comes from outside (burnish.feedback.trust).

Values and weights are our choice, kept in the two tables below: an explicit judgement is worth far
more than what somebody did in passing, and silence is worth nothing. A correction says that the
answer was not good enough, mildly: people correct what was nearly right; its text is kept for
learning from it directly. A comment is kept as text only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class JudgementLike(Protocol):
    """What a FeedbackEvent has, and a row of the learner's table may have too."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float | str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def time(self) -> datetime: ...


@dataclass(frozen=True)
class Judgement:
    """A judgement as a plain row, for callers that hold no event."""

    name: str
    value: float | str
    user: str | None
    time: datetime


@dataclass(frozen=True)
class Reward:
    """`value` in [-1, 1]; `weight` in (0, 1]: how much this counts when it is learnt from, trust
    included already; `trust` in (0, 1]: how much of the evidence was believed, for reports;
    `source`: the heaviest judgement, such as "thumbs" or "signal:copied"."""

    value: float
    weight: float
    source: str
    trust: float


@dataclass(frozen=True)
class Worth:
    value: float
    weight: float


SIGNALS: Mapping[str, Worth] = {
    "copied": Worth(+0.5, 0.2),
    "regenerated": Worth(-0.5, 0.2),
    "edited": Worth(-0.3, 0.15),
    "abandoned": Worth(-0.3, 0.1),
    "followup": Worth(0.0, 0.0),
}
CORRECTION = Worth(-0.5, 0.6)
EXPLICIT_WEIGHT = 1.0


def worth_of(name: str, value: float | str) -> Worth | None:
    """One judgement by itself; None for one that says nothing about good or bad."""
    worth: Worth | None = None
    match name:
        case "thumbs":
            worth = Worth(1.0 if value == "up" else -1.0, EXPLICIT_WEIGHT)
        case "score":
            worth = Worth(2.0 * float(value) - 1.0, EXPLICIT_WEIGHT)
        case "correction":
            worth = CORRECTION
        case "signal":
            worth = SIGNALS.get(str(value))
    return worth if worth and worth.weight > 0 else None


def standing(judgements: Iterable[JudgementLike]) -> list[JudgementLike]:
    """The last of each user under each name. On equal times the one given later wins."""
    last: dict[tuple[str | None, str], JudgementLike] = {}
    for judgement in judgements:
        place = (judgement.user, judgement.name)
        if place not in last or judgement.time >= last[place].time:
            last[place] = judgement
    return list(last.values())


def reward_of(
    judgements: Iterable[JudgementLike],
    trust: Mapping[str | None, float] | float = 1.0,
) -> Reward | None:
    """The reward of one answer. None if nobody who is believed has said anything about it.

    `trust` is one weight in [0, 1] for all, or one per user (1 for users it does not name).
    """
    total = believed = weighted_value = 0.0
    heaviest, source = 0.0, ""
    for judgement in standing(judgements):
        worth = worth_of(judgement.name, judgement.value)
        if worth is None:
            continue
        belief = trust if isinstance(trust, int | float) else trust.get(judgement.user, 1.0)
        belief = min(1.0, max(0.0, belief))
        total += worth.weight
        believed += worth.weight * belief
        weighted_value += worth.weight * belief * worth.value
        if worth.weight * belief > heaviest:
            heaviest = worth.weight * belief
            signal = judgement.name == "signal"
            source = f"signal:{judgement.value}" if signal else judgement.name
    if believed <= 0:
        return None
    value = min(1.0, max(-1.0, weighted_value / believed))
    return Reward(value, min(1.0, believed), source, min(1.0, believed / total))


def correction_of(judgements: Iterable[JudgementLike]) -> str | None:
    """The latest text that somebody would rather have read."""
    given = [judgement for judgement in standing(judgements) if judgement.name == "correction"]
    return str(max(given, key=lambda judgement: judgement.time).value) if given else None
