"""Confidence sequences by betting: bounds of a mean that hold however often one looks.

For each value m that the mean might have, a gambler bets that it is larger. If m is the mean, or above it,
no bet can be expected to win, so the chance that the capital ever grows to 1 / alpha is at most alpha
(Ville's inequality): values at which it has are refuted for good. One may look after every observation,
stop when one likes and choose the next bet by all that was seen (Waudby-Smith and Ramdas 2024,
"Estimating means of bounded random variables by betting", JRSS B 86:1). Nothing is asymptotic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEP = 0.005  # between the values that are looked at
MOST = 0.9  # of its capital that a bet may lose


@dataclass(frozen=True)
class Guess:
    """What the next observation is thought to be: mean and variance. A bad guess costs observations,
    never validity."""

    mean: float
    variance: float


class LowerBound:
    """A lower confidence sequence for the mean of observations in [-1, 1], on a grid of STEP."""

    def __init__(self, alpha: float) -> None:
        self._values = np.linspace(-1.0, 1.0, round(2 / STEP) + 1)
        self._capital = np.zeros_like(self._values)  # logarithm
        self._refuted = np.zeros(len(self._values), dtype=bool)
        self._enough = math.log(1 / alpha)

    @property
    def value(self) -> float:
        """The smallest value that is not refuted; -1 at first."""
        return float(self._values[int(np.argmin(self._refuted))])

    def add(self, observed: ArrayLike, guess: Guess) -> None:
        """Observations [N] and what was guessed before they were seen.

        One size of bet serves them all, so their means may differ: by the inequality of the arithmetic
        and geometric mean, what is bounded is the mean of them.
        """
        seen: NDArray[np.float64] = np.asarray(observed, dtype=float)
        if not len(seen):
            return
        bets = self._bets(guess)
        gains = np.log1p(bets[:, None] * (seen[None, :] - self._values[:, None])).sum(1)
        self._capital += gains
        self._refuted |= self._capital >= self._enough
        self._refuted[-1] = False  # a mean of 1 is always possible, whatever rounding says

    def _bets(self, guess: Guess) -> NDArray[np.float64]:
        """The share of capital per unit of surprise: Kelly's, to second order, within what may be lost."""
        edge = np.maximum(guess.mean - self._values, 0.0)
        wanted = edge / (guess.variance + edge**2 + 1e-9)
        return np.minimum(wanted, MOST / (1.0 + self._values + 1e-9))


class Bounds:
    """Lower and upper confidence sequences for one mean, each at `alpha` for itself."""

    def __init__(self, alpha: float) -> None:
        self._below, self._above = LowerBound(alpha), LowerBound(alpha)

    @property
    def lower(self) -> float:
        return self._below.value

    @property
    def upper(self) -> float:
        return -self._above.value

    def add(self, observed: ArrayLike, guess: Guess) -> None:
        seen = np.asarray(observed, dtype=float)
        self._below.add(seen, guess)
        self._above.add(-seen, Guess(-guess.mean, guess.variance))
