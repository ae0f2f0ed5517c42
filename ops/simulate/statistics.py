"""Statistics of the reports: bootstrap intervals, and quantiles under censoring (Kaplan-Meier)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Interval = tuple[float, float]


def bootstrap(
    columns: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    *,
    strata: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of `statistic(*means)`; rows are resampled jointly.

    Args:
        columns: arrays [rows]; row i of each belongs to the same prompt, so pairs stay pairs.
        statistic: takes one array [draws] of means per column, gives an array [draws].
        strata: a label per row; rows are resampled within their own label.
    """
    rows = len(columns[0])
    if rows == 0:
        return (math.nan, math.nan)
    rng = np.random.default_rng(seed)
    labels = np.asarray(strata if strata is not None else [""] * rows)
    sums = [np.zeros(draws) for _ in columns]
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        picked = members[rng.integers(0, len(members), size=(draws, len(members)))]
        for total, column in zip(sums, columns, strict=True):
            total += column[picked].sum(axis=1)
    values = statistic(*(total / rows for total in sums))
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return (float(low), float(high))


def mean_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, Interval]:
    """The mean and its bootstrap interval; nan for an empty sequence."""
    column = np.asarray(values, dtype=float)
    if column.size == 0:
        return math.nan, (math.nan, math.nan)
    return float(column.mean()), bootstrap([column], lambda mean: mean, seed=seed, draws=1000)


def gap_recovered(base: np.ndarray, reached: np.ndarray, oracle: np.ndarray) -> np.ndarray:
    """Share of the gap from base to oracle recovered; nan where there is no gap."""
    gap = np.asarray(oracle - base, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 0, (reached - base) / gap, np.nan)


def kaplan_meier_quantile(
    waits: Sequence[float], censored: Sequence[float], quantile: float
) -> float | None:
    """Kaplan-Meier quantile of waiting times under right censoring (seconds).

    Votes still waiting when the run ended are neither dropped, which would bias the figure
    downwards, nor counted as learnt: they leave the risk set at their waiting time so far. None
    where the survival curve does not fall that far.
    """
    events = sorted([(wait, True) for wait in waits] + [(wait, False) for wait in censored])
    surviving, at_risk = 1.0, len(events)
    for wait, happened in events:
        if happened:
            surviving *= 1 - 1 / at_risk
            if surviving <= 1 - quantile + 1e-12:
                return wait
        at_risk -= 1
    return None
