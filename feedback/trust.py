"""How much each vote counts, so that a few who mean harm, or click fast, move little.

Pure functions over plain rows; the caller decides which votes it looks at. A vote is one user's
standing judgement on one interaction. Four rules, from the outside in:

1. One effective vote per interaction, user and name: repeating it adds nothing.
2. Quarantine: votes that one user casts faster than people read count nothing.
3. Caps: within a window, a user's votes weigh at most `user_votes` together, a tenant's at most
   `tenant_votes`. Beyond that each weighs less, so more votes never weigh more.
4. Trust: who agrees with what the others say, or with what the reward model expects of the
   answer, is believed more; shrunk towards a prior, so that a newcomer counts and a short run of
   luck does not. Trust never turns negative: a liar is ignored, not read backwards. It has a
   floor, because someone whose taste differs from most people's also disagrees with them.

Feedback without a user cannot be told apart: only the tenant's cap and quarantine-free trust of a
newcomer apply. Left out: recognising colluding tenants; the gate's canaries are for that.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Vote:
    """`value` in [-1, 1]. `time` in seconds since the epoch. `predicted`: what a model expects the
    value to be, if there is one. `id`: for the caller, to find its row again."""

    user: str | None
    interaction: str
    value: float
    time: float = 0.0
    tenant: str = ""
    name: str = "thumbs"
    predicted: float | None = None
    id: str = ""


@dataclass(frozen=True)
class TrustPolicy:
    user_votes: float = 200.0
    """Weight that one user's votes may have in a window, all together."""
    tenant_votes: float = 20_000.0
    window_s: float = 3600.0
    burst_votes: int = 30
    """More votes of one user within `burst_s` than this are put in quarantine."""
    burst_s: float = 30.0
    prior_agreement: float = 0.7
    """The share of agreement expected of an honest user, whose taste is not everyone's."""
    prior_votes: float = 8.0
    """How many votes of evidence the prior stands for."""
    floor: float = 0.05


@dataclass(frozen=True)
class Weighed:
    """The weights in [0, 1] of the votes that were given, in their order, and why some are low."""

    weights: tuple[float, ...]
    trust: Mapping[tuple[str, str], float]
    """By (tenant, user)."""
    superseded: int = 0
    quarantined: int = 0
    capped: int = 0
    quarantined_users: frozenset[tuple[str, str]] = field(default_factory=frozenset)


def weigh(votes: Sequence[Vote], policy: TrustPolicy | None = None) -> Weighed:
    """All rules together. The order of the votes makes no difference to their weights."""
    policy = policy or TrustPolicy()
    effective = effective_votes(votes)
    held = quarantined(effective, policy)
    counted = [vote for vote in effective if vote not in held]
    caps = cap_weights(counted, policy)
    trust = trust_weights(counted, policy)
    newcomer = _belief(policy.prior_agreement, policy)
    by_vote = {
        vote: cap * (newcomer if vote.user is None else trust[(vote.tenant, vote.user)])
        for vote, cap in zip(counted, caps, strict=True)
    }
    # A vote given twice, word for word, is one vote: the first occurrence carries its weight.
    weights = tuple(by_vote.pop(vote, 0.0) for vote in votes)
    return Weighed(
        weights=weights,
        trust=trust,
        superseded=len(votes) - len(effective),
        quarantined=len(held),
        capped=sum(cap < 1.0 for cap in caps),
        quarantined_users=frozenset((v.tenant, v.user) for v in held if v.user is not None),
    )


def effective_votes(votes: Iterable[Vote]) -> list[Vote]:
    """The last vote of each user on each interaction under each name. Anonymous ones all stand."""
    last: dict[tuple[object, ...], Vote] = {}
    for vote in votes:
        own = vote if vote.user is None else vote.user
        place = (vote.tenant, vote.interaction, own, vote.name)
        # Ties are broken by content, so that the order of the rows does not matter.
        if place not in last or (vote.time, vote.value, vote.id) > (
            last[place].time,
            last[place].value,
            last[place].id,
        ):
            last[place] = vote
    return list(last.values())


def quarantined(votes: Iterable[Vote], policy: TrustPolicy) -> set[Vote]:
    """The votes that are part of a burst: more than `burst_votes` of a user within `burst_s`."""
    held: set[Vote] = set()
    for (_, user), own in _by_user(votes).items():
        if user is None:
            continue
        own.sort(key=lambda vote: vote.time)
        first = held_to = 0
        for last, vote in enumerate(own):
            while vote.time - own[first].time > policy.burst_s:
                first += 1
            if last - first + 1 > policy.burst_votes:
                held.update(own[max(first, held_to) : last + 1])
                held_to = last + 1
    return held


def cap_weights(votes: Sequence[Vote], policy: TrustPolicy) -> list[float]:
    """For each vote a factor in (0, 1] that keeps users and tenants within their caps."""

    def window(vote: Vote) -> int:
        return math.floor(vote.time / policy.window_s)

    of_user: dict[tuple[object, ...], int] = defaultdict(int)
    for vote in votes:
        if vote.user is not None:
            of_user[(vote.tenant, vote.user, window(vote))] += 1
    factors = [
        1.0
        if vote.user is None
        else min(1.0, policy.user_votes / of_user[(vote.tenant, vote.user, window(vote))])
        for vote in votes
    ]
    of_tenant: dict[tuple[str, int], float] = defaultdict(float)
    for vote, factor in zip(votes, factors, strict=True):
        of_tenant[(vote.tenant, window(vote))] += factor
    return [
        factor * min(1.0, policy.tenant_votes / of_tenant[(vote.tenant, window(vote))])
        for vote, factor in zip(votes, factors, strict=True)
    ]


def trust_weights(
    votes: Iterable[Vote], policy: TrustPolicy | None = None
) -> dict[tuple[str, str], float]:
    """Trust in [floor, 1] for each (tenant, user) among the votes.

    A vote agrees when its sign is that of what was expected of the answer: the mean of the other
    users' votes on it where there are any, the prediction otherwise. An expectation of +-0.2 says
    little, and teaches a fifth of what +-1 does.
    """
    policy = policy or TrustPolicy()
    votes = list(votes)
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for vote in votes:
        total = sums[(vote.tenant, vote.interaction)]
        total[0] += vote.value
        total[1] += 1
    own_sums: dict[tuple[str, str, str | None], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for vote in votes:
        own = own_sums[(vote.tenant, vote.interaction, vote.user)]
        own[0] += vote.value
        own[1] += 1
    trust: dict[tuple[str, str], float] = {}
    for (tenant, user), cast in _by_user(votes).items():
        if user is None:
            continue
        agreed = policy.prior_agreement * policy.prior_votes
        seen = policy.prior_votes
        for vote in cast:
            total, count = sums[(tenant, vote.interaction)]
            own_total, own_count = own_sums[(tenant, vote.interaction, user)]
            if count > own_count:
                expected = (total - own_total) / (count - own_count)
            elif vote.predicted is not None:
                expected = vote.predicted
            else:
                continue
            evidence = min(1.0, abs(expected)) * min(1.0, abs(vote.value))
            seen += evidence
            if vote.value * expected > 0:
                agreed += evidence
        trust[(tenant, user)] = _belief(agreed / seen, policy)
    return trust


def _belief(agreement: float, policy: TrustPolicy) -> float:
    """The weight of a vote that is right with this probability: its log-odds, which is how
    independent voters are best combined; as a share of an honest newcomer's."""

    def log_odds(p: float) -> float:
        p = min(1 - 1e-6, max(1e-6, p))
        return math.log(p / (1 - p))

    return min(1.0, max(policy.floor, log_odds(agreement) / log_odds(policy.prior_agreement)))


def _by_user(votes: Iterable[Vote]) -> dict[tuple[str, str | None], list[Vote]]:
    grouped: dict[tuple[str, str | None], list[Vote]] = defaultdict(list)
    for vote in votes:
        grouped[(vote.tenant, vote.user)].append(vote)
    return grouped
