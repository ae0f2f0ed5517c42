"""Tests by betting: capital that fair bets cannot be expected to grow, so that large capital refutes a hypothesis.

The hypothesis is that differences in [-1, 1] have at most a certain mean, whatever was seen before. Under it capital is
a supermartingale that begins at 1: the chance that it *ever* reaches 1 / alpha is at most alpha (Ville 1939), however
often one looks and whatever the bets depend on (Waudby-Smith and Ramdas 2024, JRSS B 86:1). How to bet is a matter of
power alone:

    DeadlineTest   the largest chance to have won by the last observation there will be
    MixtureTest    a small and a large change at once, without a last observation

Pure; nothing is asymptotic in what is promised.
"""

from __future__ import annotations

import math
from statistics import NormalDist

MOST = 0.9  # of its capital that a bet may lose
SIZES = (0.05, 0.1, 0.2, 0.4, 0.8)  # of MixtureTest's bets, as shares of the largest one
PRIOR_COUNT = 10  # observations that the first guess of the variance is worth
PRIOR_SQUARE = 0.5  # of two thumbs of even odds

_NORMAL = NormalDist()
_ROUNDING = 1e-9


class DeadlineTest:
    """Whether the mean difference is above 0, decided within `count` observations if it can be.

    The capital K that lies where a Brownian motion of the same variance would reach the goal by the deadline with
    probability `alpha` K if there were no difference, is bet as that probability moves (its hedge; Browne 1999,
    "Reaching goals by a deadline", Adv. Appl. Prob. 31). Were differences normal, this would be the boundary of
    O'Brien and Fleming (1979) looked at without pause: it needs few more observations than a test of fixed size.
    """

    def __init__(self, alpha: float, count: int) -> None:
        self.alpha, self.count = alpha, count
        self.capital, self.seen = 1.0, 0
        self._squares = PRIOR_COUNT * PRIOR_SQUARE

    @property
    def won(self) -> bool:
        return self.capital * self.alpha >= 1 - _ROUNDING

    @property
    def over(self) -> bool:
        """Whether nothing is bet any more."""
        return self.won or self.seen >= self.count

    def add(self, difference: float) -> None:
        """One more, in [-1, 1]. Passed over when it is over."""
        if self.over:
            return
        self.capital *= 1 + self._bet() * difference
        self.seen += 1
        self._squares += difference**2

    def _bet(self) -> float:
        variance = self._squares / (PRIOR_COUNT + self.seen)
        left = (self.count - self.seen) / variance  # in units of information
        tail = min(max(self.alpha * self.capital / 2, 1e-12), 0.5)  # one half: by reflection
        distance = _NORMAL.inv_cdf(tail)
        wanted = _NORMAL.pdf(distance) / tail / math.sqrt(left) / variance
        needed = 1 / (self.alpha * self.capital) - 1  # more than this would win nothing
        return min(wanted, needed, MOST)


class MixtureTest:
    """Whether the mean difference is above `most`, in [-1, 1): capital in equal parts, each of which bets a constant
    share (Robbins's method of mixtures)."""

    def __init__(self, alpha: float, most: float = 0.0) -> None:
        self.alpha, self._most = alpha, most
        self._bets = [size * MOST / (1 + most) for size in SIZES]
        self._parts = [1 / len(SIZES)] * len(SIZES)
        self._highest = 1.0
        self.seen = 0

    @property
    def capital(self) -> float:
        return sum(self._parts)

    @property
    def won(self) -> bool:
        """Also where it has won before: what was refuted stays so."""
        return self._highest * self.alpha >= 1 - _ROUNDING

    def add(self, difference: float) -> None:
        surprise = difference - self._most
        self._parts = [
            part * (1 + bet * surprise) for part, bet in zip(self._parts, self._bets, strict=True)
        ]
        self._highest = max(self._highest, self.capital)
        self.seen += 1
