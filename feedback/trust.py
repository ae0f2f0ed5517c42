"""How much each judgement counts, so that a few who mean harm, or click fast, move little.

Pure functions over standing judgements (judgements.py); the caller decides which ones it looks at.
Three rules, from the outside in:

1. Quarantine: judgements that one user gives faster than people read count nothing.
2. Caps: within a window, a user's judgements weigh at most `user_votes` together, a tenant's at most
   `tenant_votes`. Beyond that each weighs less, so more judgements never weigh more.
3. Trust: a user who agrees with what the others say, or with what the reward model expects of the
   answer, counts more; shrunk towards a prior, so that a newcomer counts and a short run of luck
   does not. Trust never turns negative: a liar is ignored, not read backwards. It has a floor,
   because someone whose taste differs from most people's also disagrees with them.

Judgements without a user cannot be told apart: only the tenant's cap and the trust of a newcomer
apply to them. Left out: recognising tenants that collude; the gate's canaries are for that.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import worth_of

Rater = tuple[str, str]  # tenant and user


@dataclass(frozen=True)
class TrustPolicy:
    user_votes: float = 200.0
    """Weight that one user's judgements may have in a window, all together."""
    tenant_votes: float = 20_000.0
    window_s: float = 3600.0
    burst_votes: int = 30
    """More judgements of one user within `burst_s` than this are put in quarantine."""
    burst_s: float = 30.0
    prior_agreement: float = 0.7
    """The share of agreement expected of an honest user, whose taste is not everyone's."""
    prior_votes: float = 8.0
    """How many judgements of evidence the prior stands for."""
    floor: float = 0.05


@dataclass(frozen=True)
class Weights:
    """The weights in [0, 1] of the judgements given, in their order, and why some are low."""

    weights: tuple[float, ...]
    trust: Mapping[Rater, float]
    quarantined: int = 0
    capped: int = 0
    quarantined_users: frozenset[Rater] = field(default_factory=frozenset)


class _Vote(NamedTuple):
    """A judgement that says good or bad: its place in the list, and its value in [-1, 1]."""

    index: int
    judgement: Judgement
    value: float
    expected: float | None


def weigh(
    judgements: Sequence[Judgement],
    expected: Sequence[float | None] | None = None,
    policy: TrustPolicy | None = None,
) -> Weights:
    """The three rules together. The order of the judgements makes no difference to their weights.

    `expected` holds for each judgement the reward in [-1, 1] that a model expects of its answer.
    A judgement that says neither good nor bad weighs nothing and uses up no cap.
    """
    policy = policy or TrustPolicy()
    expectations = [None] * len(judgements) if expected is None else expected
    votes = [
        _Vote(index, judgement, worth.value, expectation)
        for index, (judgement, expectation) in enumerate(zip(judgements, expectations, strict=True))
        if (worth := worth_of(judgement)) is not None
    ]
    held = _quarantined(votes, policy)
    counted = [vote for vote in votes if vote.index not in held]
    caps = _caps(counted, policy)
    trust = _trust(counted, policy)
    newcomer = _weight_of_agreement(policy.prior_agreement, policy)
    weights = [0.0] * len(judgements)
    for vote, cap in zip(counted, caps, strict=True):
        rater = _rater(vote)
        weights[vote.index] = cap * (newcomer if rater is None else trust[rater])
    return Weights(
        weights=tuple(weights),
        trust=trust,
        quarantined=len(held),
        capped=sum(cap < 1.0 for cap in caps),
        quarantined_users=frozenset(
            rater for vote in votes if vote.index in held and (rater := _rater(vote))
        ),
    )


def _quarantined(votes: Iterable[_Vote], policy: TrustPolicy) -> set[int]:
    """Where the votes are that belong to a burst: over `burst_votes` of a user within `burst_s`."""
    held: set[int] = set()
    for own in _by_rater(votes).values():
        own.sort(key=lambda vote: (vote.judgement.time, vote.judgement.id))
        first = held_to = 0
        for last, vote in enumerate(own):
            while vote.judgement.time - own[first].judgement.time > policy.burst_s:
                first += 1
            if last - first + 1 > policy.burst_votes:
                held.update(vote.index for vote in own[max(first, held_to) : last + 1])
                held_to = last + 1
    return held


def _caps(votes: Sequence[_Vote], policy: TrustPolicy) -> list[float]:
    """For each vote a factor in (0, 1] that keeps users and tenants within their caps."""

    def window(vote: _Vote) -> int:
        return math.floor(vote.judgement.time / policy.window_s)

    of_user: dict[tuple[Rater, int], int] = defaultdict(int)
    for vote in votes:
        if (rater := _rater(vote)) is not None:
            of_user[rater, window(vote)] += 1
    factors = [
        1.0
        if (rater := _rater(vote)) is None
        else min(1.0, policy.user_votes / of_user[rater, window(vote)])
        for vote in votes
    ]
    of_tenant: dict[tuple[str, int], float] = defaultdict(float)
    for vote, factor in zip(votes, factors, strict=True):
        of_tenant[vote.judgement.tenant, window(vote)] += factor
    return [
        factor * min(1.0, policy.tenant_votes / of_tenant[vote.judgement.tenant, window(vote)])
        for vote, factor in zip(votes, factors, strict=True)
    ]


def _trust(votes: Sequence[_Vote], policy: TrustPolicy) -> dict[Rater, float]:
    """Trust in [floor, 1] for each user among the votes.

    A vote agrees when its sign is that of what was expected of the answer: the mean of the other
    users' votes on it where there are any, else the model's expectation. An expectation of +-0.2
    says little, and teaches a fifth of what +-1 does.
    """
    sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    own_sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for vote in votes:
        answer = vote.judgement.answer
        for total in (sums[answer], own_sums[answer, vote.judgement.user]):
            total[0] += vote.value
            total[1] += 1
    trust: dict[Rater, float] = {}
    for (tenant, user), own in _by_rater(votes).items():
        agreed = policy.prior_agreement * policy.prior_votes
        seen = policy.prior_votes
        for vote in own:
            total, count = sums[vote.judgement.answer]
            own_total, own_count = own_sums[vote.judgement.answer, user]
            if count > own_count:
                expected = (total - own_total) / (count - own_count)
            elif vote.expected is not None:
                expected = vote.expected
            else:
                continue
            evidence = min(1.0, abs(expected)) * min(1.0, abs(vote.value))
            seen += evidence
            if vote.value * expected > 0:
                agreed += evidence
        trust[tenant, user] = _weight_of_agreement(agreed / seen, policy)
    return trust


def _weight_of_agreement(agreement: float, policy: TrustPolicy) -> float:
    """The weight of a vote that is right with this probability: its log-odds, which is how
    independent voters are best combined (Nitzan and Paroush, 1982), as a share of a newcomer's."""

    def log_odds(p: float) -> float:
        p = min(1 - 1e-6, max(1e-6, p))
        return math.log(p / (1 - p))

    return min(1.0, max(policy.floor, log_odds(agreement) / log_odds(policy.prior_agreement)))


def _rater(vote: _Vote) -> Rater | None:
    user = vote.judgement.user
    return None if user is None else (vote.judgement.tenant, user)


def _by_rater(votes: Iterable[_Vote]) -> dict[Rater, list[_Vote]]:
    grouped: dict[Rater, list[_Vote]] = defaultdict(list)
    for vote in votes:
        if (rater := _rater(vote)) is not None:
            grouped[rater].append(vote)
    return grouped
