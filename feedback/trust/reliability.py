"""Reliability: the chance that a rater's vote says what others make of the answer, and not its opposite.

The one-coin model of Dawid and Skene (1979), against what a model fitted to the others' votes expects of
each answer. Reliabilities are shrunk twice: a rater's towards a newcomer's, and in
one kind of prompts towards the rater's in all. So a short run of luck says little, who lies in one
niche is disbelieved there alone, and so is a minority where its taste is another.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Rater, Vote, by_rater

BISECTIONS = 24


@dataclass(frozen=True)
class Reliabilities:
    """Of raters in all that they rate, and in single kinds of prompts; each in (0, 1)."""

    of_raters: Mapping[Rater, float]
    of_kinds: Mapping[tuple[Rater, Hashable], float]

    def of(self, vote: Vote, newcomer: float) -> float:
        rater = vote.rater
        if rater is None:
            return newcomer
        return self.of_kinds.get((rater, vote.kind), self.of_raters.get(rater, newcomer))


def reliabilities(votes: Sequence[Vote], policy: TrustPolicy) -> Reliabilities:
    """How reliable each rater among the votes is.

    Of an answer that no model knows, the mean of the others' votes is expected.
    """
    expected = dict(zip((vote.index for vote in votes), expectations(votes), strict=True))
    of_raters: dict[Rater, float] = {}
    of_kinds: dict[tuple[Rater, Hashable], float] = {}
    for rater, own in by_rater(votes).items():
        agreed: dict[Hashable, list[float]] = defaultdict(list)
        for vote in own:
            agreed[vote.kind].append(_agreement(vote.value, expected[vote.index]))
        everywhere = [agreement for found in agreed.values() for agreement in found]
        overall = _reliability(everywhere, policy.prior_reliability, policy.prior_votes)
        of_raters[rater] = overall
        for kind, found in agreed.items():
            of_kinds[rater, kind] = _reliability(found, overall, policy.prior_votes_of_kind)
    return Reliabilities(of_raters, of_kinds)


def expectations(votes: Sequence[Vote]) -> list[float]:
    """The value in [-1, 1] that is expected of each vote's answer: a model's, else the mean of the others' votes."""
    others = _OthersVotes(votes)
    return [
        vote.expected if vote.expected is not None else others.mean(vote, vote.rater)
        for vote in votes
    ]


def agreements(votes: Sequence[Vote], unknown: float) -> list[float]:
    """How far each vote agrees with what is expected of its answer, in [-1, 1]; `unknown` where nothing is."""
    return [
        vote.value * expected if vote.expected is not None or expected else unknown
        for vote, expected in zip(votes, expectations(votes), strict=True)
    ]


def weight_of(reliability: float, policy: TrustPolicy) -> float:
    """The weight of a vote by a rater so reliable, as a share of a newcomer's and at most the same.

    What a vote moves the mean of a coin's two sides by; a rater who tosses the coin, or lies, has the
    least: a liar is ignored, not read backwards.
    """
    return min(1.0, max(policy.floor, (2 * reliability - 1) / (2 * policy.prior_reliability - 1)))


def _agreement(value: float, expected: float) -> float:
    """The probability that a reliable rater would vote so, in [0, 1]; .5 says nothing of the rater."""
    return min(0.98, max(0.02, (1 + value * expected) / 2))


def _reliability(agreements: Sequence[float], prior: float, strength: float) -> float:
    """The most probable reliability, under a Beta prior with this mode and a strength in votes.

    The logarithm of its probability is concave: where its slope is zero is found by bisection, since
    expectation maximisation takes hundreds of rounds where single votes say little.
    """
    telling = [a for a in agreements if a != 0.5]
    if not telling:
        return prior
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        r = (low + high) / 2
        slope = strength * (prior / r - (1 - prior) / (1 - r))
        slope += sum((2 * a - 1) / (r * a + (1 - r) * (1 - a)) for a in telling)
        low, high = (r, high) if slope > 0 else (low, r)
    return (low + high) / 2


class _OthersVotes:
    """The mean of the votes on an answer by others than one rater, shrunk towards 0."""

    def __init__(self, votes: Sequence[Vote]) -> None:
        self._sums: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._own: dict[tuple, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for vote in votes:
            answer = vote.judgement.answer
            for total in (self._sums[answer], self._own[answer, vote.rater]):
                total[0] += vote.value
                total[1] += 1

    def mean(self, vote: Vote, rater: Rater | None) -> float:
        answer = vote.judgement.answer
        (total, count), (own, own_count) = self._sums[answer], self._own[answer, rater]
        return (total - own) / (count - own_count + 1)
