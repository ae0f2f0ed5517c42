"""Drift of prompts and of tastes: what people ask, and what they like, beside what they did before.

    prompts     kinds are clusters of half of the prompts before, and one for whatever lies far from all of
                them; how far new prompts lie from their shares is held to how far the other half does
    tastes      how far votes lie from what a reward model fitted to the votes before foresees of their
                answers, held to how far it is from votes of people who were left out of it

Both look at judged answers whose features an update has stored. Left out: which prompts those are, since whoever
may read alarms may not read what people ask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from burnish.learner.alarms.comparing import BATCH, Band
from burnish.learner.alarms.deciding import Reading, Subject, read, silent
from burnish.learner.alarms.limits import AlarmLimits
from burnish.learner.alarms.measures import Series
from burnish.learner.report.data import Bounds, Key, ReportData, Vote
from burnish.learner.report.fits import FOLDS, Fits, NoTime
from burnish.learner.report.statistics import folds
from burnish.learner.reward.clusters import clustered
from burnish.serving.reward.kernel import Coordinates
from torch import Tensor

KINDS = 6  # of prompts, at most
FITS = Bounds(answers=600, seconds=60.0)
FAR = 0.95  # of the prompts before lie nearer to a kind than what belongs to none
NO_FEATURES = "too few judged answers that an update has read"


def prompts(
    data: ReportData, version: int, limits: AlarmLimits, *, since: float, is_open: bool
) -> Reading:
    """How much of what is asked falls into kinds that have grown (the total variation distance)."""
    what = "prompts that are of other kinds than before"
    before, now = _judged(data, version, since, limits)
    if min(len(before) // 2, len(now)) < limits.fewest:
        return silent("prompts", f"{what}: {NO_FEATURES}", since=since, is_open=is_open)
    half, rest = before[::2], before[1::2]
    kinds = Kinds(_features(data, [vote.answer for vote in half]))
    usual, theirs, ours = (
        kinds.of(_features(data, [vote.answer for vote in votes])) for votes in (half, rest, now)
    )
    shares = [usual.count(kind) / len(usual) for kind in range(kinds.count)]
    series = Series(
        [vote.time for vote in now],
        grown(ours, shares),
        grown(theirs, shares),
        scale=2.0,
        zero=0.5,
    )
    subject = Subject("prompts", what, Band(more=limits.prompts / 2))
    return read(subject, series, limits, since=since, is_open=is_open)


def grown(kinds: Sequence[int], usual: Sequence[float]) -> list[float]:
    """Of each, whether it falls into kinds that the ones before it had more of than is usual, less the share that
    usually does: (1 + difference) / 2. Its mean is .5 where nothing has changed, and on the way to half of 1
    plus the total variation distance where something has."""
    values: list[float] = []
    for start in range(0, len(kinds), BATCH):
        seen = Counter(kinds[:start])
        more = {k for k, share in enumerate(usual) if start and seen[k] / start > share}
        expected = sum(usual[kind] for kind in more)
        values += [(1 + (k in more) - expected) / 2 for k in kinds[start : start + BATCH]]
    return values


def tastes(
    data: ReportData,
    version: int,
    limits: AlarmLimits,
    *,
    since: float,
    is_open: bool,
    bounds: Bounds = FITS,
) -> Reading:
    """How far votes lie from what is foreseen by those before, by fits within `bounds`."""
    what = "mean square of what votes differ from what is foreseen by"
    before, now = _judged(data, version, since, limits)
    if min(len(before), len(now)) < limits.fewest:
        return silent("tastes", f"{what}: {NO_FEATURES}", since=since, is_open=is_open)
    fits = Fits(data, bounds)
    fitted_to = fits.latest(before)
    last = [votes[-1] for votes in fitted_to.values()]
    counts = Counter(vote.rater for vote in last)
    groups = {person: number for number, fold in enumerate(folds(counts, FOLDS)) for person in fold}
    try:
        expected = fits.foresee(fitted_to, [vote.answer for vote in now])
        left_out = fits.left_out(fitted_to, [groups[vote.rater] for vote in last])
    except NoTime:
        return silent("tastes", f"{what}: there was no time", since=since, is_open=is_open)
    series = Series([vote.time for vote in now], _errors(now, expected), _errors(last, left_out))
    subject = Subject("tastes", what, Band(more=limits.tastes), unit="of 1")
    return read(subject, series, limits, since=since, is_open=is_open)


class Kinds:
    """Kinds of prompts, told by features [N, 3H] of answers to them."""

    def __init__(self, features: Tensor) -> None:
        self._coordinates = Coordinates.fit(features)
        points = self._coordinates(features).prompts
        labels = clustered(points, min(KINDS, len(points)))
        present = labels.unique().tolist()
        self._centres = torch.stack([points[labels == label].mean(0) for label in present])
        self._far = float(torch.cdist(points, self._centres).min(1).values.quantile(FAR))
        self.count = len(present) + 1

    def of(self, features: Tensor) -> list[int]:
        """The kind of each; the last one is of those that are far from all."""
        distances = torch.cdist(self._coordinates(features).prompts, self._centres).min(1)
        far = distances.values > self._far
        return torch.where(far, self.count - 1, distances.indices).tolist()


def _judged(
    data: ReportData, version: int, since: float, limits: AlarmLimits
) -> tuple[list[Vote], list[Vote]]:
    """The latest votes on answers of versions before, and the version's after that time; oldest first."""
    known = sorted(
        (vote for vote in data.votes if vote.answer in data.features),
        key=lambda v: (v.time, v.answer),
    )
    before = [vote for vote in known if vote.version < version][-limits.reference :]
    return before, [vote for vote in known if vote.version == version and vote.time > since]


def _errors(votes: Sequence[Vote], expected: Sequence[float]) -> list[float]:
    return [
        min(1.0, (vote.value - min(1.0, max(0.0, told))) ** 2)
        for vote, told in zip(votes, expected, strict=True)
    ]


def _features(data: ReportData, keys: Sequence[Key]) -> Tensor:
    return torch.from_numpy(np.stack([data.features[key] for key in keys])).float()
