"""What a reward model makes of the votes: can it tell likes from dislikes, does it foresee too much.

A fit is costly, so there are `Bounds`: at most so many answers to a fit, the latest ones, and no new fit
when the time is likely to run out. Features are those that updates have stored; an answer that has none
is left out and counted. Left out besides: the doubt about the fit itself, in the intervals.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import torch
from burnish.learner.report.data import Bounds, Key, ReportData, Vote
from burnish.learner.report.figures import Discrimination, Foreseen, VersionFigures
from burnish.learner.report.statistics import (
    FEWEST_PEOPLE,
    PairWins,
    Weighted,
    difference_interval,
    folds,
)
from burnish.learner.report.versions import FLOOR
from burnish.learner.reward import reward_model

FOLDS = 5
VERSIONS = 3  # the latest ones with enough votes, for which a fit of their own is made
LEVEL = 1 - 0.05 / VERSIONS  # of each gap's interval, so that all of them hold at 95 %


class NoTime(Exception):
    """The next fit would probably take longer than there is time."""


class Fits:
    """Fits reward models of one kind, as long as there is time by `clock`, in seconds."""

    def __init__(
        self,
        data: ReportData,
        kind: str,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._features, self._kind, self._bounds = data.features, kind, bounds
        self._clock, self._began, self._slowest = clock, clock(), 0.0

    @property
    def answers(self) -> int:
        return self._bounds.answers

    def foresee(self, votes: Iterable[Vote], keys: Sequence[Key]) -> list[float]:
        """P(liked) of these answers by a model fitted to those votes. All of them have features.

        Raises NoTime.
        """
        began = self._clock()
        if began - self._began + self._slowest > self._bounds.seconds:
            raise NoTime
        judged = _latest(_by_answer(votes), self.answers)
        features = self._tensor(list(judged))
        weights = torch.tensor([sum(v.trust * v.share for v in of) for of in judged.values()])
        likes = torch.tensor(
            [sum(v.trust * v.share * v.value for v in of) for of in judged.values()]
        )
        model = reward_model.make(self._kind, features.shape[1], 0)
        generator = torch.Generator().manual_seed(0)
        model.fit(features, likes / weights, weights.clamp(max=1.0), generator=generator)
        foreseen = model.mean(self._tensor(keys))
        self._slowest = max(self._slowest, self._clock() - began)
        return foreseen.tolist()

    def _tensor(self, keys: Sequence[Key]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._features[key] for key in keys])).float()


def discriminate(data: ReportData, fits: Fits) -> Discrimination:
    """The AUROC on votes of people to whom the model was not fitted, nor to any vote on an answer that
    they judged."""
    with_features = [vote for vote in data.votes if vote.answer in data.features]
    judged = _latest(_by_answer(with_features), fits.answers)
    votes = [vote for of in judged.values() for vote in of]
    people = Counter(vote.rater for vote in votes)
    found = Discrimination(
        liked=sum(vote.value > 0.5 for vote in votes),
        disliked=sum(vote.value < 0.5 for vote in votes),
        people=len(people),
        without_features=len({v.answer for v in data.votes} - data.features.keys()),
    )
    if found.liked < FLOOR or found.disliked < FLOOR:
        return _without(found, f"too few votes: it takes {FLOOR} of each kind")
    if len(people) < 2:
        return _without(found, "all votes are of one person")
    wins, done = PairWins(), 0
    for held_out in folds(people, FOLDS):
        try:
            done += _try(votes, held_out, fits, wins)
        except NoTime:
            break
    if wins.auroc is None:
        return _without(
            found, "there was no time" if not done else "nobody held out both liked and disliked"
        )
    interval = wins.interval() if len(people) >= FEWEST_PEOPLE else None
    low, high = interval or (None, None)
    return found.model_copy(update={"auroc": wins.auroc, "low": low, "high": high, "folds": done})


def foresee(data: ReportData, version: VersionFigures, fits: Fits) -> VersionFigures:
    """The version with what was foreseen of it by a model fitted only to votes given before it began to
    serve. Raises NoTime.

    The interval of the gap is taken against the gap on the votes fitted to, people resampled in both: so
    it carries the doubt about the level that was foreseen too.
    """
    began = data.began.get(version.version)
    known = [vote for vote in data.votes if vote.answer in data.features]
    theirs = [vote for vote in known if vote.version == version.version]
    earlier = [vote for vote in known if began is not None and vote.time < began]
    fitted_to = _latest(_by_answer(earlier), fits.answers)
    earlier = [vote for of in fitted_to.values() for vote in of]
    if len(theirs) < FLOOR:
        return version.model_copy(update={"unforeseen": "too few of its votes have features yet"})
    if len(earlier) < FLOOR:
        return version.model_copy(update={"unforeseen": "too few votes before it"})
    keys = list(dict.fromkeys(vote.answer for vote in (*theirs, *earlier)))
    foreseen = dict(zip(keys, fits.foresee(earlier, keys), strict=True))
    gaps, fitted = (
        Weighted(
            [foreseen[vote.answer] - vote.value for vote in votes],
            [vote.share for vote in votes],
            [vote.rater for vote in votes],
        )
        for votes in (theirs, earlier)
    )
    people = len(set(gaps.raters))
    interval = difference_interval(gaps, fitted, level=LEVEL) if people >= FEWEST_PEOPLE else None
    low, high = interval or (None, None)
    observed = Weighted([vote.value for vote in theirs], gaps.weights, gaps.raters).mean
    told = Foreseen(
        foreseen=observed + gaps.mean,
        observed=observed,
        gap=gaps.mean,
        low=low,
        high=high,
        votes=round(sum(gaps.weights), 3),
        people=people,
        fitted_to=len(fitted_to),
    )
    return version.model_copy(update={"foreseen": told, "unforeseen": None})


def to_foresee(versions: Sequence[VersionFigures]) -> list[VersionFigures]:
    """The latest versions with enough votes, the latest first."""
    return [version for version in reversed(versions) if version.enough][:VERSIONS]


def _try(votes: Sequence[Vote], held_out: Collection[str], fits: Fits, wins: PairWins) -> int:
    """Fit to the others, and score the votes of those held out; 1 where that could be done."""
    theirs = [vote for vote in votes if vote.rater in held_out]
    touched = {vote.answer for vote in theirs}
    others = [vote for vote in votes if vote.answer not in touched]
    if not others:
        return 0
    keys = list(dict.fromkeys(vote.answer for vote in theirs))
    scores = dict(zip(keys, fits.foresee(others, keys), strict=True))
    wins.add(
        [scores[vote.answer] for vote in theirs],
        [vote.value for vote in theirs],
        [vote.rater for vote in theirs],
        [vote.share for vote in theirs],
    )
    return 1


def _by_answer(votes: Iterable[Vote]) -> dict[Key, list[Vote]]:
    grouped: dict[Key, list[Vote]] = {}
    for vote in votes:
        grouped.setdefault(vote.answer, []).append(vote)
    return grouped


def _latest(judged: dict[Key, list[Vote]], count: int) -> dict[Key, list[Vote]]:
    """The answers that were judged last, oldest first."""
    order = sorted(judged, key=lambda key: (max(vote.time for vote in judged[key]), key))
    return {key: judged[key] for key in order[-count:]}


def _without(found: Discrimination, why: str) -> Discrimination:
    return found.model_copy(update={"why_not": why})
