"""Statistics of the report: Wilson intervals, folds by person, and bootstraps over people.

Votes of one person are alike, so whatever is resampled is people and not votes. Pure functions;
intervals are at 95 % where nothing else is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Interval = tuple[float, float]

Z = 1.959963984540054  # of the normal distribution, two-sided 95 %
DRAWS = 1000
FEWEST_PEOPLE = 10  # of whom a bootstrap says something
# The fits of two folds share votes, which no resample of held-out ones can show: over logs of pure noise
# (300 to 1,500 votes, vectors of 12 to 768 numbers) the AUROC varies by this factor more than it says.
SHARED_VOTES = 1.2


def wilson(successes: float, count: float) -> Interval:
    """Wilson's score interval of a proportion (1927). `successes` may be a sum of values in [0, 1], for
    which it is wide enough too: they vary less than yes and no."""
    if count <= 0:
        return 0.0, 1.0
    share = successes / count
    centre = share + Z**2 / (2 * count)
    spread = Z * math.sqrt(max(0.0, share * (1 - share)) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def newcombe(a: Interval, b: Interval, share_a: float, share_b: float) -> Interval:
    """Interval of the difference of two proportions, a minus b, from their own Wilson intervals (Newcombe
    1998, method 10): shorter than what intervals that just do not overlap ask for."""
    difference = share_a - share_b
    below = math.hypot(share_a - a[0], b[1] - share_b)
    above = math.hypot(a[1] - share_a, share_b - b[0])
    return difference - below, difference + above


def folds(votes: Mapping[str, int], count: int) -> list[frozenset[str]]:
    """At most `count` groups of people with about as many votes each; `votes` says how many each gave.
    The same people always fall into the same groups."""
    groups: list[set[str]] = [set() for _ in range(min(count, len(votes)))]
    sizes = [0] * len(groups)
    for person in sorted(votes, key=lambda person: (-votes[person], person)):
        smallest = sizes.index(min(sizes))
        groups[smallest].add(person)
        sizes[smallest] += votes[person]
    return [frozenset(group) for group in groups]


class PairWins:
    """How often a liked answer scored above a disliked one, counted by the two people who judged them.

    `add` takes the held-out votes of one fold: scores of two folds come from two fits and are not
    compared. A tie is half a win, a vote of .5 is in no pair, a vote weighs its share.
    """

    def __init__(self) -> None:
        self._wins: list[np.ndarray] = []  # per fold [people, people]: of the first's likes
        self._pairs: list[np.ndarray] = []  # over the second's dislikes

    def add(
        self, scores: ArrayLike, values: ArrayLike, raters: ArrayLike, shares: ArrayLike
    ) -> None:
        people, who = np.unique(np.asarray(raters), return_inverse=True)
        score, value = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
        weight = np.asarray(shares, dtype=float)
        liked, disliked = value > 0.5, value < 0.5
        difference = score[liked][:, None] - score[disliked][None, :]
        pairs = weight[liked][:, None] * weight[disliked][None, :]
        wins = pairs * ((difference > 0) + 0.5 * (difference == 0))
        size = len(people)
        likes = np.zeros((size, int(liked.sum())))
        likes[who[liked], np.arange(likes.shape[1])] = 1
        dislikes = np.zeros((int(disliked.sum()), size))
        dislikes[np.arange(dislikes.shape[0]), who[disliked]] = 1
        self._wins.append(likes @ wins @ dislikes)
        self._pairs.append(likes @ pairs @ dislikes)

    @property
    def auroc(self) -> float | None:
        """The share of pairs won; None without any pair."""
        pairs = sum(float(p.sum()) for p in self._pairs)
        return sum(float(w.sum()) for w in self._wins) / pairs if pairs else None

    def interval(self, seed: int = 0) -> Interval | None:
        """Percentile interval of `auroc`, people resampled over all folds, and widened by SHARED_VOTES."""
        middle = self.auroc
        if middle is None:
            return None
        drawn = _times_drawn(np.random.default_rng(seed), sum(map(len, self._wins)))
        won, of = np.zeros(DRAWS), np.zeros(DRAWS)
        for wins, pairs in zip(self._wins, self._pairs, strict=True):
            times, drawn = drawn[:, : len(wins)], drawn[:, len(wins) :]
            won += ((times @ wins) * times).sum(1)
            of += ((times @ pairs) * times).sum(1)
        kept = of > 0
        low, high = (
            middle + SHARED_VOTES * (end - middle)
            for end in _percentiles(won[kept] / of[kept], 0.95)
        )
        return max(0.0, low), min(1.0, high)


class Weighted(NamedTuple):
    """Values with their weights, and who each of them is of."""

    values: Sequence[float]
    weights: Sequence[float]
    raters: Sequence[str]

    @property
    def mean(self) -> float:
        return float(np.average(self.values, weights=self.weights))


def difference_interval(
    a: Weighted, b: Weighted, *, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Percentile interval of the mean of `a` minus the mean of `b`; people are resampled with all that
    is theirs in both, so that who is strict in both makes no difference. None where that leaves nothing."""
    people = sorted({*a.raters, *b.raters})
    times = _times_drawn(np.random.default_rng(seed), len(people))
    (sum_a, weight_a), (sum_b, weight_b) = (_resampled(given, people, times) for given in (a, b))
    kept = (weight_a > 0) & (weight_b > 0)
    if not kept.any():
        return None
    return _percentiles((sum_a[kept] / weight_a[kept]) - (sum_b[kept] / weight_b[kept]), level)


def _resampled(
    given: Weighted, people: Sequence[str], times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted sum and the weight of each resample, [DRAWS] each."""
    who = np.searchsorted(people, given.raters)
    weights = np.asarray(given.weights, dtype=float)
    sums = np.bincount(who, weights * np.asarray(given.values, dtype=float), len(people))
    return times @ sums, times @ np.bincount(who, weights, len(people))


def _times_drawn(rng: np.random.Generator, people: int) -> np.ndarray:
    """How often each is drawn in each of the resamples, [DRAWS, people]."""
    return rng.multinomial(people, np.full(people, 1 / people), size=DRAWS).astype(float)


def _percentiles(values: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
