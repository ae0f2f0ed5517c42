"""Caps: the most that a rater, newcomers, an API key, a tenant or the anonymous may weigh among the others.

Applied from the inside out: a rater's in a window, the pool of a key's newcomers (pools.py), both in a kind of
prompts; the anonymous' of an API key; a key's of its tenant; a tenant's of all in a window, and in all windows
together. What one user may is measured: a few times what nine honest people in ten do. Who is alone has no rival to
drown out, and a key or tenant is a rival from ten established raters on, so that invented names silence nobody;
everyone may weigh as much as one user may. More votes never weigh less.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.pools import CROWD, established, pool_of, pooled
from burnish.feedback.trust.votes import Rater, Vote

Groups = Mapping[Hashable, float]
"""The weight of each group within one whole."""
Place = tuple[Hashable, Hashable]
"""The whole that a vote belongs to, and its group within it."""
USUAL = 0.9  # of the established raters


def capped(
    votes: Sequence[Vote],
    weights: Sequence[float],
    policy: TrustPolicy,
    agreements: Sequence[float] | None = None,
) -> list[float]:
    """The weights of votes, with those cut that would pass a cap. `agreements`: how far each vote agrees with
    what others' let expect, in [-1, 1]."""
    agreed = agreements if agreements is not None else [0.0] * len(votes)
    known = established(votes, agreed, policy)
    user_votes = usual_votes(votes, weights, known, policy)
    rival_keys = _crowds(rater.key_id for rater in known)
    in_kinds = {(vote.kind, vote.rater) for vote in votes if vote.rater in known}
    crowded_kinds = _crowds(kind for kind, _ in in_kinds)
    rival_tenants = _crowds(rater.tenant for rater in known)

    def window(vote: Vote) -> int:
        return policy.window_of(vote.judgement.time)

    def rater_in_window(vote: Vote) -> Place | None:
        return ((window(vote), vote.rater), None) if vote.rater is not None else None

    def rater_in_kind(vote: Vote) -> Place | None:
        return (vote.kind, vote.rater) if vote.rater and vote.kind is not None else None

    def pool_in_kind(vote: Vote) -> Place | None:
        if vote.rater is None or vote.kind is None or vote.kind not in crowded_kinds:
            return None
        return vote.kind, pool_of(vote, known)

    def anonymous_in_key(vote: Vote) -> Place:
        judgement = vote.judgement
        return (window(vote), judgement.tenant, judgement.key_id), vote.rater is None

    def key_in_tenant(vote: Vote) -> Place:
        return (window(vote), vote.judgement.tenant), vote.judgement.key_id

    def tenant_in_all(vote: Vote) -> Place:
        return window(vote), vote.judgement.tenant

    def tenant_in_update(vote: Vote) -> Place:
        return None, vote.judgement.tenant

    def of_user(groups: Groups) -> Groups:
        return dict.fromkeys(groups, user_votes)

    def of_pool_in_kind(groups: Groups) -> Groups:
        if not (others := groups.get(None)):
            return groups
        share = policy.newcomer_kind_share
        cap = max(policy.kind_votes, others * share / (1 - share))
        return {pool: weight if pool is None else cap for pool, weight in groups.items()}

    def of_kind(groups: Groups) -> Groups:
        crowded = len(groups) >= policy.crowd
        share, least = policy.kind_share, policy.kind_votes
        return _shares(groups, share, least, frozenset()) if crowded else groups

    def of_anonymous(groups: Groups) -> Groups:
        named = groups.get(False)
        if not named:
            return groups
        share = policy.anonymous_share
        return {False: named, True: max(user_votes, named * share / (1 - share))}

    def of_key(groups: Groups) -> Groups:
        return _shares(groups, policy.key_share, user_votes, rival_keys)

    def of_tenant(groups: Groups) -> Groups:
        return _but_owner(_shares(groups, policy.tenant_share, user_votes, rival_tenants), policy)

    def of_tenant_in_update(groups: Groups) -> Groups:
        return _but_owner(_shares(groups, policy.update_share, user_votes, rival_tenants), policy)

    weights = _cut(weights, [rater_in_window(vote) for vote in votes], of_user)
    weights = pooled(votes, weights, agreed, known, policy, user_votes)
    for place_of, caps_of in (
        (rater_in_kind, of_kind),
        (pool_in_kind, of_pool_in_kind),
        (anonymous_in_key, of_anonymous),
        (key_in_tenant, of_key),
        (tenant_in_all, of_tenant),
        (tenant_in_update, of_tenant_in_update),
    ):
        weights = _cut(weights, [place_of(vote) for vote in votes], caps_of)
    return list(weights)


def usual_votes(
    votes: Sequence[Vote],
    weights: Sequence[float],
    known: frozenset[Rater],
    policy: TrustPolicy,
) -> float:
    """The weight that one rater may have in a window: `usual_times` what nine in ten of the established weigh in
    their busiest. A quantile, since a few who vote without end move it little, and invented names not at all."""
    busiest: dict[Rater, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for vote, weight in zip(votes, weights, strict=True):
        rater = vote.rater
        if rater is not None and rater in known:
            busiest[rater][policy.window_of(vote.judgement.time)] += weight
    if len(busiest) < CROWD:
        return policy.user_votes
    sums = sorted(max(windows.values()) for windows in busiest.values())
    usual = sums[math.ceil(USUAL * len(sums)) - 1]
    least = min(policy.least_user_votes, policy.user_votes)
    return min(policy.user_votes, max(least, policy.usual_times * usual))


def _but_owner(caps: Groups, policy: TrustPolicy) -> Groups:
    if policy.owner not in caps:
        return caps
    return {**caps, policy.owner: math.inf}


def _cut(
    weights: Sequence[float],
    places: Sequence[Place | None],
    caps_of: Callable[[Groups], Groups],
) -> list[float]:
    """The weights, each group's cut to its cap; those without a place stay."""
    wholes: dict[Hashable, dict[Hashable, float]] = defaultdict(lambda: defaultdict(float))
    for weight, place in zip(weights, places, strict=True):
        if place is not None:
            wholes[place[0]][place[1]] += weight
    caps = {whole: caps_of(groups) for whole, groups in wholes.items()}
    cut = []
    for weight, place in zip(weights, places, strict=True):
        if place is None or not weight:
            cut.append(weight)
        else:
            whole, group = place
            cut.append(weight * min(1.0, caps[whole][group] / wholes[whole][group]))
    return cut


def _shares(groups: Groups, share: float, least: float, rivals: frozenset[Hashable]) -> Groups:
    """At most `share` of the whole to each, or `least`; no cap for one alone. Where `rivals` are among the groups,
    the whole is theirs; where only one is, it is not cut."""
    if len(groups) < 2:
        return groups
    standing = {group: weight for group, weight in groups.items() if group in rivals} or groups
    if len(standing) > 1:
        return dict.fromkeys(groups, max(least, _largest(list(standing.values()), share)))
    [(one, weight)] = standing.items()
    cap = max(least, weight * share / (1 - share)) if share < 1 else math.inf
    return {group: weight if group == one else cap for group in groups}


def _crowds(names: Iterable[Hashable]) -> frozenset[Hashable]:
    """Those that CROWD established raters belong to."""
    return frozenset(name for name, count in Counter(names).items() if count >= CROWD)


def _largest(totals: Sequence[float], share: float) -> float:
    """The largest c that is `share` of the totals once each is cut to c.

    Fewer than 1 / `share` groups cannot all keep to it: then they are cut to equal parts.
    """
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
