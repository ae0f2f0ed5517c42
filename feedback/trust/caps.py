"""Caps: the most that a rater, an API key, a tenant or the anonymous may weigh among the others.

Applied from the inside out: a rater's in a window, and in a kind of prompts; the anonymous' of an API key;
a key's of its tenant; a tenant's of all. Who is alone has no rival to drown out; and everyone may weigh as
much as one user may, so that a rival who votes twice does not silence a thousand. More votes never weigh
less.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Vote

Groups = Mapping[Hashable, float]
"""The weight of each group within one whole."""
Place = tuple[Hashable, Hashable]
"""The whole that a vote belongs to, and its group within it."""


def capped(votes: Sequence[Vote], weights: Sequence[float], policy: TrustPolicy) -> list[float]:
    """The weights of votes, with those cut that would pass a cap."""

    def window(vote: Vote) -> int:
        return math.floor(vote.judgement.time / policy.window_s)

    def rater_in_window(vote: Vote) -> Place | None:
        return ((window(vote), vote.rater), None) if vote.rater is not None else None

    def rater_in_kind(vote: Vote) -> Place | None:
        return (vote.kind, vote.rater) if vote.rater and vote.kind is not None else None

    def anonymous_in_key(vote: Vote) -> Place:
        judgement = vote.judgement
        return (window(vote), judgement.tenant, judgement.key_id), vote.rater is None

    def key_in_tenant(vote: Vote) -> Place:
        return (window(vote), vote.judgement.tenant), vote.judgement.key_id

    def tenant_in_all(vote: Vote) -> Place:
        return window(vote), vote.judgement.tenant

    def of_user(groups: Groups) -> Groups:
        return dict.fromkeys(groups, policy.user_votes)

    def of_kind(groups: Groups) -> Groups:
        crowded = len(groups) >= policy.crowd
        return _shares(groups, policy.kind_share, policy.kind_votes) if crowded else groups

    def of_anonymous(groups: Groups) -> Groups:
        named = groups.get(False)
        if not named:
            return groups
        share = policy.anonymous_share
        return {False: named, True: max(policy.user_votes, named * share / (1 - share))}

    def of_key(groups: Groups) -> Groups:
        return _shares(groups, policy.key_share, policy.user_votes)

    def of_tenant(groups: Groups) -> Groups:
        return _shares(groups, policy.tenant_share, policy.user_votes)

    for place_of, caps_of in (
        (rater_in_window, of_user),
        (rater_in_kind, of_kind),
        (anonymous_in_key, of_anonymous),
        (key_in_tenant, of_key),
        (tenant_in_all, of_tenant),
    ):
        weights = _cut(weights, [place_of(vote) for vote in votes], caps_of)
    return list(weights)


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


def _shares(groups: Groups, share: float, least: float) -> Groups:
    """At most `share` of the whole to each, or `least`; no cap for one alone."""
    if len(groups) < 2:
        return groups
    return dict.fromkeys(groups, max(least, _largest(list(groups.values()), share)))


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
