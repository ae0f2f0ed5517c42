"""The weights of judgements, so that a few who mean harm, or click fast, move little.

Pure functions over standing judgements (judgements.py); the caller decides which ones it looks at.
Three rules, from the outside in:

1. Quarantine (bursts.py): where one rater judges faster than people read, nothing of theirs counts: not
   what they gave within a window of that, nor whatever else they say of the answers they judged so.
2. Reliability (reliability.py): a rater whose votes say what others' votes let expect counts in full, one
   whose votes say nothing or the opposite hardly at all. There is a floor, because someone whose taste
   differs from most people's also disagrees with them.
3. Caps (caps.py): on the weight of a rater, of the newcomers of an API key together, of both in one kind of
   prompts, of the anonymous, of a key, and of a tenant in an hour and in all.

A judgement that names nobody counts as that of whoever asked; where that is unknown too, it shares a pool with
a cap of its own. A session's judgement is one, however many answers it is about. Left out: recognising
tenants that collude; the gate's canaries are for that.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from burnish.feedback.judgements import Judgement
from burnish.feedback.trust.bursts import quarantined
from burnish.feedback.trust.caps import capped
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.reliability import agreements, reliabilities, weight_of
from burnish.feedback.trust.votes import Rater, votes_among


@dataclass(frozen=True)
class Weights:
    """The weights in [0, 1] of the judgements given, in their order, and why some are low.

    `reasons`: of each "burst", "reliability" or "cap", the one that took most; "" where nothing did. `heard`: what
    caps and quarantine alone leave of each, whoever is believed."""

    weights: tuple[float, ...]
    reliability: Mapping[Rater, float]
    quarantined: int = 0
    capped: int = 0
    quarantined_users: frozenset[Rater] = field(default_factory=frozenset)
    reasons: tuple[str, ...] = ()
    heard: tuple[float, ...] = ()


def weigh(
    judgements: Sequence[Judgement],
    expected: Sequence[float | None] | None = None,
    policy: TrustPolicy | None = None,
    *,
    kinds: Sequence[Hashable] | None = None,
) -> Weights:
    """The three rules together. The order of the judgements makes no difference to their weights.

    `expected` holds for each judgement the value in [-1, 1] that a model fitted without its rater expects
    of its answer, `kinds` the kind of prompts. A judgement that says neither good nor bad weighs nothing
    and uses up no cap.
    """
    policy = policy or TrustPolicy()
    votes = votes_among(judgements, expected, kinds)
    held = quarantined(votes, policy)
    counted = [vote for vote in votes if vote.index not in held]
    found = reliabilities(counted, policy)
    newcomer = policy.prior_reliability
    trusted = [
        vote.judgement.share * weight_of(found.of(vote, newcomer), policy) for vote in counted
    ]
    agreed = agreements(counted, policy.unknown_agreement)
    kept = capped(counted, trusted, policy, agreed)
    weights, reasons = [0.0] * len(judgements), [""] * len(judgements)
    heard = [1.0] * len(judgements)
    for index in held:
        reasons[index], heard[index] = "burst", 0.0
    for vote, believed, weight in zip(counted, trusted, kept, strict=True):
        share = vote.judgement.share
        # What is left of a session's judgement is shared among its answers where rewards are made.
        weights[vote.index] = weight / share
        heard[vote.index] = weight / believed if believed else 1.0
        if weight < share:
            reasons[vote.index] = "cap" if believed - weight > share - believed else "reliability"
    return Weights(
        weights=tuple(weights),
        reliability=found.of_raters,
        quarantined=len(held),
        capped=sum(after < before for after, before in zip(kept, trusted, strict=True)),
        quarantined_users=frozenset(
            vote.rater for vote in votes if vote.index in held and vote.rater is not None
        ),
        reasons=tuple(reasons),
        heard=tuple(heard),
    )
