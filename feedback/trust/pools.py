"""Pools: the weight that all newcomers of one API key share, however many they are.

A name costs nothing, so a crowd of new ones is heard as one. Whoever's votes have agreed with what others' let
expect, often enough or for long enough, is established and leaves the pool. What a pool may weigh in a window
begins at what one user may, beside a crowd of the established at what one of them does, and grows by what it has
weighed before, as far as it agreed with a model; so a crowd of honest people who vote once each doubles its pool with
every window, and one that votes at random stays where it is.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Rater, Vote, by_rater

DAY_S = 86_400.0
CROWD = 10  # established raters, from which on they are a rival to newcomers, and to other keys and tenants


class Pool(NamedTuple):
    """The newcomers of one API key."""

    tenant: str
    key_id: str | None


def established(
    votes: Sequence[Vote], agreements: Sequence[float], policy: TrustPolicy
) -> frozenset[Rater]:
    """The raters who are no newcomers any more. `agreements` says for each vote how far it agrees with what
    others' votes let expect, in [-1, 1]; over days the same agreement counts for more.

    What a model that knows little expects of an answer says little of its rater, so the less it expects, the more
    the vote counts as one on an unknown answer: who votes often is established, unless it surely speaks against
    them.
    """
    of_votes = {
        vote.index: agreed + policy.unknown_agreement * (1 - abs(vote.expected))
        if vote.expected is not None
        else agreed
        for vote, agreed in zip(votes, agreements, strict=True)
    }
    found = set()
    for rater, own in by_rater(votes).items():
        times = [vote.judgement.time for vote in own]
        days = (max(times) - min(times)) / DAY_S
        agreed = sum(vote.judgement.share * of_votes[vote.index] for vote in own)
        if agreed * (1 + days) >= policy.established:
            found.add(rater)
    return frozenset(found)


def pool_of(vote: Vote, known: frozenset[Rater]) -> Pool | None:
    """None for votes of the established, and of nobody named: these have a share of their own."""
    if vote.rater is None or vote.rater in known:
        return None
    return Pool(vote.judgement.tenant, vote.judgement.key_id)


def pooled(
    votes: Sequence[Vote],
    weights: Sequence[float],
    agreements: Sequence[float],
    known: frozenset[Rater],
    policy: TrustPolicy,
    user_votes: float,
) -> list[float]:
    """The weights, with those of each pool cut to what it may weigh in its window. A pool without a rival, which
    is another pool or a crowd of the established, is not cut."""
    pools = [pool_of(vote, known) for vote in votes]
    if len(known) < CROWD and len({pool for pool in pools if pool is not None}) < 2:
        return list(weights)
    usual = _usual(votes, weights, agreements, known)
    begins = user_votes / policy.usual_times if len(known) >= CROWD else user_votes
    by_pool: dict[Pool, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    others: dict[int, float] = defaultdict(float)
    for at, (vote, pool) in enumerate(zip(votes, pools, strict=True)):
        window = policy.window_of(vote.judgement.time)
        if pool is not None:
            by_pool[pool][window].append(at)
        elif vote.rater is not None:
            others[window] += weights[at]
    share = policy.newcomer_share
    cut = list(weights)
    for windows in by_pool.values():
        grown = 0.0
        for window, places in sorted(windows.items()):
            total = sum(weights[at] for at in places)
            if not total:
                continue
            cap = max(begins + grown, others[window] * share / (1 - share))
            kept = min(total, cap)
            for at in places:
                cut[at] = weights[at] * kept / total
            told = [at for at in places if votes[at].expected is not None]
            agreed = sum(weights[at] * agreements[at] for at in told) / total
            grown += kept * min(1.0, max(0.0, agreed / usual))
    return cut


def _usual(
    votes: Sequence[Vote],
    weights: Sequence[float],
    agreements: Sequence[float],
    known: frozenset[Rater],
) -> float:
    """The mean agreement of the established, or of everybody where nobody is."""
    rows = [at for at, vote in enumerate(votes) if not known or vote.rater in known]
    total = sum(weights[at] for at in rows)
    mean = sum(weights[at] * agreements[at] for at in rows) / total if total else 0.0
    return mean if mean > 0 else 1.0
