"""How much each judgement counts, so that a few who mean harm, or click fast, move little.

Pure functions over standing judgements (judgements.py); the caller decides which ones it looks at.
A rater is a user as one API key names them: whoever votes in another's name through a key of their
own harms only that name under that key. Four rules, from the outside in:

1. Quarantine: where one rater judges faster than people read, nothing of theirs counts: not what
   they gave within a window of that, nor whatever else they say of the answers they judged so.
2. User cap: within a window, a rater's judgements weigh at most `user_votes` together. Beyond that
   each weighs less, so more judgements never weigh more.
3. Trust: a rater who agrees with what the others say, or with what the reward model expects of the
   answer, counts more; shrunk towards a prior, so that a newcomer counts and a short run of luck
   does not. Trust never turns negative: a liar is ignored, not read backwards. It has a floor,
   because someone whose taste differs from most people's also disagrees with them.
4. Shares: within a window, one API key has at most `key_share` of its tenant's weight, and one tenant
   at most `tenant_share` of all, however many users they speak for. Who is alone has no rival to
   drown out; and everyone may weigh as much as one user may, so that a rival who votes twice does
   not silence a thousand.

Judgements without a user cannot be told apart: only the shares and the trust of a newcomer apply to
them. A session's judgement is one, however many answers it is about. Left out: recognising tenants
that collude; the gate's canaries are for that.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import worth_of


class Rater(NamedTuple):
    tenant: str
    user: str
    key_id: str | None = None


@dataclass(frozen=True)
class TrustPolicy:
    user_votes: float = 200.0
    """Weight that one rater's judgements may have in a window, all together."""
    key_share: float = 0.5
    """The most that one API key may have of its tenant's weight in a window."""
    tenant_share: float = 0.5
    """The most that one tenant may have of all weight in a window."""
    window_s: float = 3600.0
    burst_votes: int = 30
    """More judgements of one rater within `burst_s` than this are put in quarantine."""
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
    """The four rules together. The order of the judgements makes no difference to their weights.

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
    trust = _trust(counted, policy)
    newcomer = _weight_of_agreement(policy.prior_agreement, policy)
    believed = [newcomer if (rater := _rater(v)) is None else trust[rater] for v in counted]
    caps = _caps(counted, believed, policy)
    weights = [0.0] * len(judgements)
    for vote, cap, trusted in zip(counted, caps, believed, strict=True):
        weights[vote.index] = cap * trusted
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
    """Where the votes are that fall to a burst: over `burst_votes` of a rater within `burst_s`."""
    held: set[int] = set()
    for own in _by_rater(votes).values():
        bursts = _bursts(own, policy)
        answers = {
            vote.judgement.answer
            for vote in own
            if any(first <= vote.judgement.time <= last for first, last in bursts)
        }
        held.update(
            vote.index
            for vote in own
            if vote.judgement.answer in answers
            or any(
                first - policy.window_s <= vote.judgement.time <= last + policy.window_s
                for first, last in bursts
            )
        )
    return held


def _bursts(own: Iterable[_Vote], policy: TrustPolicy) -> list[tuple[float, float]]:
    """When one rater's bursts began and ended. A session's judgement is one of many answers."""
    times = sorted({vote.judgement.event_id: vote.judgement.time for vote in own}.values())
    found: list[tuple[float, float]] = []
    first = 0
    for last, time in enumerate(times):
        while time - times[first] > policy.burst_s:
            first += 1
        if last - first + 1 > policy.burst_votes:
            began = times[first]
            if found and began <= found[-1][1]:
                began = found.pop()[0]
            found.append((began, time))
    return found


def _caps(votes: Sequence[_Vote], believed: Sequence[float], policy: TrustPolicy) -> list[float]:
    """For each vote a factor in (0, 1] that keeps raters, keys and tenants within their caps.

    A window's tenants share it, and a tenant's keys what falls to the tenant.
    """

    def window(vote: _Vote) -> int:
        return math.floor(vote.judgement.time / policy.window_s)

    def keys_of(vote: _Vote) -> tuple[Hashable, Hashable]:
        tenant = vote.judgement.tenant
        return (window(vote), tenant), vote.judgement.key_id

    def tenants_of(vote: _Vote) -> tuple[Hashable, Hashable]:
        return window(vote), vote.judgement.tenant

    of_user: dict[tuple[Rater, int], float] = defaultdict(float)
    for vote in votes:
        if (rater := _rater(vote)) is not None:
            of_user[rater, window(vote)] += vote.judgement.share
    factors = [
        1.0
        if (rater := _rater(vote)) is None
        else min(1.0, policy.user_votes / of_user[rater, window(vote)])
        for vote in votes
    ]
    for group_of, share in ((keys_of, policy.key_share), (tenants_of, policy.tenant_share)):
        sizes = [
            vote.judgement.share * trusted * factor
            for vote, trusted, factor in zip(votes, believed, factors, strict=True)
        ]
        factors = [
            factor * kept
            for factor, kept in zip(
                factors, _shares(votes, sizes, group_of, share, policy.user_votes), strict=True
            )
        ]
    return factors


def _shares(
    votes: Sequence[_Vote],
    sizes: Sequence[float],
    group_of: Callable[[_Vote], tuple[Hashable, Hashable]],
    share: float,
    least: float,
) -> list[float]:
    """For each vote the factor that leaves its group at most `share` of the whole, or `least`.

    `group_of` names the whole that a vote belongs to, and the group within it.
    """
    wholes: dict[Hashable, dict[Hashable, float]] = defaultdict(lambda: defaultdict(float))
    for vote, size in zip(votes, sizes, strict=True):
        whole, group = group_of(vote)
        wholes[whole][group] += size
    caps = {w: max(least, _cap(list(g.values()), share)) for w, g in wholes.items()}
    factors = []
    for vote in votes:
        whole, group = group_of(vote)
        factors.append(min(1.0, caps[whole] / total) if (total := wholes[whole][group]) else 1.0)
    return factors


def _cap(totals: Sequence[float], share: float) -> float:
    """The largest c that is `share` of the totals once each is cut to c; infinite for one alone.

    Fewer than 1 / `share` groups cannot all keep to it: then they are cut to equal parts.
    """
    if len(totals) < 2:
        return math.inf
    share = max(share, 1 / len(totals))
    falling = sorted(totals, reverse=True)
    rest = sum(falling)
    for cut, largest in enumerate(falling):
        left = 1 - share * cut
        if left <= 1e-12:
            return largest
        if largest <= (cap := share * rest / left):
            return cap
        rest -= largest
    return falling[-1]


def _trust(votes: Sequence[_Vote], policy: TrustPolicy) -> dict[Rater, float]:
    """Trust in [floor, 1] for each rater among the votes.

    A vote agrees when its sign is that of what was expected of the answer: the mean of the other
    users' votes on it where there are any, else the model's expectation. An expectation of +-0.2
    says little, and teaches a fifth of what +-1 does.
    """
    sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    own_sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for vote in votes:
        answer = vote.judgement.answer
        for total in (sums[answer], own_sums[answer, _rater(vote)]):
            total[0] += vote.value
            total[1] += 1
    trust: dict[Rater, float] = {}
    for rater, own in _by_rater(votes).items():
        agreed = policy.prior_agreement * policy.prior_votes
        seen = policy.prior_votes
        for vote in own:
            total, count = sums[vote.judgement.answer]
            own_total, own_count = own_sums[vote.judgement.answer, rater]
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
        trust[rater] = _weight_of_agreement(agreed / seen, policy)
    return trust


def _weight_of_agreement(agreement: float, policy: TrustPolicy) -> float:
    """The weight of a vote that is right with this probability: its log-odds, which is how
    independent voters are best combined (Nitzan and Paroush, 1982), as a share of a newcomer's."""

    def log_odds(p: float) -> float:
        p = min(1 - 1e-6, max(1e-6, p))
        return math.log(p / (1 - p))

    return min(1.0, max(policy.floor, log_odds(agreement) / log_odds(policy.prior_agreement)))


def _rater(vote: _Vote) -> Rater | None:
    judgement = vote.judgement
    if judgement.user is None:
        return None
    return Rater(judgement.tenant, judgement.user, judgement.key_id)


def _by_rater(votes: Iterable[_Vote]) -> dict[Rater, list[_Vote]]:
    grouped: dict[Rater, list[_Vote]] = defaultdict(list)
    for vote in votes:
        if (rater := _rater(vote)) is not None:
            grouped[rater].append(vote)
    return grouped
