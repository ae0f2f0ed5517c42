"""Comparing what is observed with what was before: bounds of both means, and what lies between them.

Both are confidence sequences by betting (gate/sequential.py), so one may look after every answer; a comparison
that starts anew after each epoch errs with a chance of at most `alpha` in each, however often it is looked at.
Pure functions of series of numbers in [0, 1], oldest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.learner.gate.sequential import Bounds, Guess

BATCH = 25  # observations that are bet on alike
PRIOR = 4.0  # observations that the first guess stands for
SIDES = 4  # bounds that may err: two of each mean


@dataclass(frozen=True)
class Interval:
    """A mean with its bounds, in [0, 1]."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """What a mean may be beside a reference's: at most `more` above it, or within `least` and `most` of it."""

    more: float | None = None
    least: float | None = None
    most: float | None = None

    def top(self, reference: float) -> float:
        """The most it may be."""
        if self.more is not None:
            return reference + self.more
        return math.inf if self.most is None else reference * self.most

    def bottom(self, reference: float) -> float:
        return 0.0 if self.least is None else reference * self.least


@dataclass(frozen=True)
class Compared:
    """`outside`: the mean surely lies outside its band; `inside`: it surely does not."""

    now: Interval
    before: Interval
    outside: bool
    inside: bool


def compare(
    now: Sequence[float], before: Sequence[float], band: Band, alpha: float, tests: int = 1
) -> Compared:
    """Hold the mean of `now` to its band around that of `before`. `outside` where it is not, is said with a
    chance of at most `alpha`, over `tests` comparisons that are made together."""
    each = alpha / (SIDES * tests)
    ours, theirs = interval(now, each), interval(before, each)
    outside = ours.low > band.top(theirs.high) or ours.high < band.bottom(theirs.low)
    inside = ours.high < band.top(theirs.low) and ours.low >= band.bottom(theirs.high)
    return Compared(ours, theirs, outside, inside)


def interval(values: Sequence[float], alpha: float) -> Interval:
    """The mean of values in [0, 1], with bounds each of which errs with a chance of at most `alpha`."""
    if not len(values):
        return Interval(0.0, 0.0, 1.0)
    bounds = Bounds(alpha)
    total, squares, count = 0.5 * PRIOR, 0.5 * PRIOR, PRIOR
    for start in range(0, len(values), BATCH):
        part = values[start : start + BATCH]
        mean = total / count
        bounds.add(part, Guess(mean, max(1e-4, squares / count - mean**2)))
        total += sum(part)
        squares += sum(value**2 for value in part)
        count += len(part)
    return Interval(sum(values) / len(values), max(0.0, bounds.lower), min(1.0, bounds.upper))
