"""What people did in passing, weighed by what they say: the worth of implicit signals, learnt per policy.

Some answers have both a signal (copied, regenerated, ...) and an explicit judgement. How often those are
liked, beside the answers without the signal, says what it is worth where nobody has judged. Each estimate
is a Beta posterior: a signal begins at its constant in feedback/rewards.py, as so many answers would
have taught it, and judgements move it from there. A signal weighs as much as it tells, in units of what
a verdict tells: one that comes with good and bad answers alike weighs nothing.

Left out: that several signals on one answer may say the same thing, and that people who vote may not
signal as others do. Pure functions over standing judgements; no torch, since the report asks too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from burnish.feedback.judgements import Judgement, Worth
from burnish.feedback.rewards import SIGNALS, Reward, worth_of
from burnish.feedback.trust.policy import TrustPolicy
from burnish.learner.reward.experience import JudgedAnswer, rewards_of

EXPLICIT = frozenset({"thumbs", "score"})
PRIOR_ANSWERS = 16.0  # judged ones that a constant stands for


@dataclass(frozen=True)
class SignalWorth:
    """What a signal is worth. `liked`: P(liked) of an answer with it, `otherwise` of one without it;
    `seen`: answers with both the signal and an explicit judgement, by the judgements' weight."""

    worth: Worth
    liked: float
    otherwise: float
    seen: float = 0.0


@dataclass(frozen=True)
class _Tally:
    """Explicitly judged answers, by weight, and how many of them were liked."""

    seen: float
    liked: float

    def rate(self, expected: float) -> float:
        """The posterior mean of P(liked) under a Beta prior of mean `expected`."""
        return (self.liked + PRIOR_ANSWERS * expected) / (self.seen + PRIOR_ANSWERS)


def explicit_rewards(
    judgements: Sequence[Sequence[Judgement]], policy: TrustPolicy | None = None
) -> list[Reward | None]:
    """Of each answer's judgements what the thumbs and scores among them are worth; None without one."""
    explicit = [[j for j in judged if j.name in EXPLICIT] for judged in judgements]
    return rewards_of(explicit, policy)


def signal_worths(
    judgements: Sequence[Sequence[Judgement]], explicit: Sequence[Reward | None]
) -> dict[str, SignalWorth]:
    """The worth of each signal, from all judgements of a policy's answers, by answer, and what the
    explicit ones among them are worth (`explicit_rewards`)."""
    marked = [
        (_signals(judged), reward)
        for judged, reward in zip(judgements, explicit, strict=True)
        if reward is not None
    ]
    every = _tally([reward for _, reward in marked])
    overall = every.rate(0.5)
    found: dict[str, SignalWorth] = {}
    for signal, constant in SIGNALS.items():
        seen = _tally([reward for signals, reward in marked if signal in signals])
        rest = _Tally(max(0.0, every.seen - seen.seen), max(0.0, every.liked - seen.liked))
        found[signal] = _learnt(constant, seen, rest.rate(overall))
    return found


def information(liked: float, otherwise: float) -> float:
    """How much it tells that P(liked) is `liked` and not `otherwise`, in [0, 1]: the Kullback-Leibler
    divergence of the one from the other, as a share of what a verdict that way tells. Both in (0, 1)."""
    certain = -math.log(otherwise if liked > otherwise else 1 - otherwise)
    told = liked * math.log(liked / otherwise) + (1 - liked) * math.log(
        (1 - liked) / (1 - otherwise)
    )
    return min(1.0, max(0.0, told / certain))


def with_worths(
    answers: Sequence[JudgedAnswer], worths: Mapping[str, SignalWorth]
) -> list[JudgedAnswer]:
    """The answers, with what their signals are worth; without those of which nothing says good or bad
    any more."""
    weighed = [
        replace(answer, judgements=tuple(_weighed(j, worths) for j in answer.judgements))
        for answer in answers
    ]
    return [answer for answer in weighed if any(map(worth_of, answer.judgements))]


def figures(worths: Mapping[str, SignalWorth]) -> dict[str, float]:
    """The signals that were seen beside explicit judgements, for the tick's counts."""
    return {
        f"signal_{name}_{what}": value
        for name, signal in worths.items()
        if signal.seen
        for what, value in (
            ("judged", signal.seen),
            ("liked", signal.liked),
            ("otherwise", signal.otherwise),
            ("weight", signal.worth.weight),
        )
    }


def _learnt(constant: Worth, seen: _Tally, otherwise: float) -> SignalWorth:
    # The constant is a likelihood ratio: it moves the odds of an answer without the signal.
    expected = _sigmoid(_logit(otherwise) + _logit((1 + constant.value) / 2))
    liked = seen.rate(expected)
    assumed = PRIOR_ANSWERS / (PRIOR_ANSWERS + seen.seen)
    weight = assumed * constant.weight + (1 - assumed) * information(liked, otherwise)
    return SignalWorth(Worth(2 * liked - 1, weight), liked, otherwise, seen.seen)


def _tally(rewards: Sequence[Reward]) -> _Tally:
    return _Tally(
        sum(reward.weight for reward in rewards),
        sum(reward.weight * (1 + reward.value) / 2 for reward in rewards),
    )


def _signals(judgements: Sequence[Judgement]) -> frozenset[str]:
    """Those of the answer itself: a session's are of no answer in particular."""
    return frozenset(
        str(judgement.value)
        for judgement in judgements
        if judgement.name == "signal" and judgement.session_id is None
    )


def _weighed(judgement: Judgement, worths: Mapping[str, SignalWorth]) -> Judgement:
    if judgement.name != "signal" or judgement.worth is not None:
        return judgement
    found = worths.get(str(judgement.value))
    return judgement if found is None else replace(judgement, worth=found.worth)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
