"""What a reward model makes of the votes: can it tell likes from dislikes, does it foresee too much.

A fit is costly, so there are `Bounds`: at most so many answers to a fit, the latest ones, and no new fit
when the time is likely to run out. It is the learner's reward model with its default hyperparameters.
Features are those that updates have stored; an answer that has none is left out and counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

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
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import FittedReward, fit
from burnish.serving.reward.kernel import Hyperparameters

FOLDS = 5
VERSIONS = 3  # the latest ones with enough votes, for which a fit of their own is made
LEVEL = 1 - 0.05 / VERSIONS  # of each gap's interval, so that all of them hold at 95 %


class NoTime(Exception):
    """The next fit would probably take longer than there is time."""


class Fits:
    """Fits reward models to votes on answers that have features, as long as there is time by `clock`, in
    seconds."""

    def __init__(
        self, data: ReportData, bounds: Bounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._features, self._bounds = data.features, bounds
        self._clock, self._began, self._slowest = clock, clock(), 0.0

    def latest(self, votes: Iterable[Vote]) -> dict[Key, list[Vote]]:
        """The answers that were judged last, as many as a fit takes, oldest first, with their votes."""
        judged: dict[Key, list[Vote]] = {}
        for vote in sorted(votes, key=lambda vote: (vote.time, vote.answer)):
            judged.setdefault(vote.answer, []).append(vote)
        order = sorted(judged, key=lambda key: judged[key][-1].time)
        return {key: judged[key] for key in order[-self._bounds.answers :]}

    def foresee(self, judged: dict[Key, list[Vote]], keys: Sequence[Key]) -> list[float]:
        """P(liked) of answers by a fit to those `judged`. Raises NoTime."""
        return self._fit(judged).model.mean(self._tensor(keys)).tolist()

    def left_out(self, judged: dict[Key, list[Vote]], groups: Sequence[int]) -> list[float]:
        """P(liked) of each answer by a fit without the answers of its group. Raises NoTime."""
        return self._fit(judged).left_out(groups).tolist()

    def _fit(self, judged: dict[Key, list[Vote]]) -> FittedReward:
        began = self._clock()
        if began - self._began + self._slowest > self._bounds.seconds:
            raise NoTime
        of_answers = list(judged.values())
        weights = torch.tensor([sum(v.trust * v.share for v in votes) for votes in of_answers])
        likes = torch.tensor(
            [sum(v.trust * v.share * v.value for v in votes) for votes in of_answers]
        )
        evidence = Evidence(
            self._tensor(list(judged)),
            likes / weights,
            weights.clamp(max=1.0),
            [votes[-1].rater for votes in of_answers],
        )
        fitted = fit(evidence, evidence.ages, Hyperparameters())
        self._slowest = max(self._slowest, self._clock() - began)
        return fitted

    def _tensor(self, keys: Sequence[Key]) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._features[key] for key in keys])).float()


def discriminate(data: ReportData, fits: Fits) -> Discrimination:
    """The AUROC on votes of people to whom the model was not fitted. Of an answer that several people
    judged only the last vote takes part: so neither a person nor an answer is on both sides."""
    judged = fits.latest(vote for vote in data.votes if vote.answer in data.features)
    votes = [of_answer[-1] for of_answer in judged.values()]
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
    held_out = folds(people, FOLDS)
    fold_of = {person: number for number, fold in enumerate(held_out) for person in fold}
    groups = [fold_of[vote.rater] for vote in votes]
    try:
        scores = fits.left_out({vote.answer: [vote] for vote in votes}, groups)
    except NoTime:
        return _without(found, "there was no time")
    wins = PairWins()
    for number in range(len(held_out)):
        inside = [index for index, group in enumerate(groups) if group == number]
        wins.add(
            [scores[index] for index in inside],
            [votes[index].value for index in inside],
            [votes[index].rater for index in inside],
            [votes[index].share for index in inside],
        )
    if wins.auroc is None:
        return _without(found, "nobody was held out who liked one answer and not another")
    interval = wins.interval() if len(people) >= FEWEST_PEOPLE else None
    low, high = interval or (None, None)
    measured = {"auroc": wins.auroc, "low": low, "high": high, "folds": len(held_out)}
    return found.model_copy(update=measured)


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
    fitted_to = fits.latest(earlier)
    earlier = [vote for of_answer in fitted_to.values() for vote in of_answer]
    if len(theirs) < FLOOR:
        return version.model_copy(update={"unforeseen": "too few of its votes have features yet"})
    if len(earlier) < FLOOR:
        return version.model_copy(update={"unforeseen": "too few votes before it"})
    keys = list(dict.fromkeys(vote.answer for vote in (*theirs, *earlier)))
    foreseen = dict(zip(keys, fits.foresee(fitted_to, keys), strict=True))
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


def _without(found: Discrimination, why: str) -> Discrimination:
    return found.model_copy(update={"why_not": why})
