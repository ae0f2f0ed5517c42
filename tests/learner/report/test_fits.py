"""What a reward model finds in votes whose truth is known, and what it may look at."""

import pytest
from burnish.learner.report.data import Bounds, ReportData
from burnish.learner.report.figures import VersionFigures
from burnish.learner.report.fits import Fits, NoTime, discriminate, foresee, to_foresee
from burnish.learner.report.versions import FLOOR, version_figures

from tests.learner.report.rows import judged, key, vote, voted

ENOUGH = Bounds(answers=2000, seconds=600.0)


class Watched(Fits):
    """Remembers what was fitted to, and of what it was asked."""

    def __init__(self, data: ReportData, bounds: Bounds = ENOUGH) -> None:
        super().__init__(data, bounds)
        self.seen: list[tuple] = []

    def foresee(self, judged, keys):
        votes = [vote for of_answer in judged.values() for vote in of_answer]
        self.seen.append((votes, list(keys)))
        return super().foresee(judged, keys)

    def left_out(self, judged, groups):
        self.seen.append((judged, groups))
        return super().left_out(judged, groups)


def version_of(data: ReportData, version: int) -> VersionFigures:
    return next(v for v in version_figures(data) if v.version == version)


def test_a_shared_taste_is_found():
    found = discriminate(data := judged({1: 300}, taste=0.3), Fits(data, ENOUGH))
    assert found.low is not None
    assert found.low > 0.6
    assert not found.is_guessing
    assert (found.folds, found.people) == (5, 20)


def test_noise_is_told_from_it():
    found = discriminate(data := judged({1: 300}, taste=0.0, seed=1), Fits(data, ENOUGH))
    assert found.is_guessing
    assert found.high is not None
    assert found.high < 0.65


def test_noise_is_seldom_taken_for_a_taste():
    logs = [judged({1: 200}, taste=0.0, seed=seed, people=30) for seed in range(20)]
    told = [discriminate(data, Fits(data, ENOUGH)).is_guessing for data in logs]
    assert sum(told) >= 18, "an interval at 95 % misses one side once in forty"


def test_no_person_and_no_answer_is_on_both_sides_of_a_fit():
    data = judged({1: 120}, taste=0.2)
    twice = [
        vote(v.answer, 1 - v.value, rater="local/user/second", time=v.time + 1e4)
        for v in data.votes[:40]
    ]
    data = ReportData(**{**vars(data), "votes": [*data.votes, *twice]})
    watched = Watched(data)
    found = discriminate(data, watched)
    ((fitted, groups),) = watched.seen
    assert all(len(votes) == 1 for votes in fitted.values()), "one vote on each answer, the last"
    group_of = {}
    for (given,), group in zip(fitted.values(), groups, strict=True):
        assert group_of.setdefault(given.rater, group) == group
    assert set(groups) == {0, 1, 2, 3, 4}
    assert found.liked + found.disliked == 120


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (judged({1: 2 * FLOOR - 2}, taste=0.1), "too few votes: it takes 30 of each kind"),
        (judged({1: 200}, taste=0.0, people=1), "all votes are of one person"),
        (voted({1: (100, 200)}), "too few votes: it takes 30 of each kind"),
    ],
    ids=["few", "one person", "no features"],
)
def test_what_cannot_be_measured_says_why(data: ReportData, why: str):
    found = discriminate(data, Fits(data, ENOUGH))
    assert (found.auroc, found.why_not) == (None, why)
    assert found.without_features == len({v.answer for v in data.votes} - set(data.features))


def test_few_people_get_no_interval():
    data = judged({1: 200}, taste=0.3, people=5)
    found = discriminate(data, Fits(data, ENOUGH))
    assert found.auroc is not None
    assert (found.low, found.is_guessing) == (None, False)


def test_what_is_foreseen_knows_only_votes_from_before_the_version_began():
    data = judged({1: 100, 2: 100, 3: 100}, taste=0.2)
    watched = Watched(data)
    told = foresee(data, version_of(data, 2), watched).foreseen
    ((fitted, asked),) = watched.seen
    assert {v.version for v in fitted} == {1}
    assert {v.answer for v in data.votes if v.version == 2} <= set(asked)
    assert told is not None
    assert (told.votes, told.fitted_to) == (100, 100)
    assert told.gap == pytest.approx(told.foreseen - told.observed)


def test_a_vote_that_came_late_on_an_early_answer_is_not_from_before():
    data = judged({1: 100, 2: 100}, taste=0.2)
    votes = [vote(key(1, 0), time=1e9, rater="local/user/late"), *data.votes]
    watched = Watched(ReportData(**{**vars(data), "votes": votes}))
    foresee(ReportData(**{**vars(data), "votes": votes}), version_of(data, 2), watched)
    ((fitted, _),) = watched.seen
    assert "local/user/late" not in {v.rater for v in fitted}


def test_a_version_that_pleases_the_model_and_not_the_people_is_found():
    data = judged({1: 300, 2: 150, 3: 150}, taste=0.2, shown={3: 0.9}, believed={3: 0.4})
    made = {
        v.version: foresee(data, v, Fits(data, ENOUGH)) for v in to_foresee(version_figures(data))
    }
    assert made[3].foreseen is not None
    assert made[3].foreseen.above
    assert made[3].foreseen.gap > 0.2
    assert made[2].foreseen is not None
    assert not made[2].foreseen.above
    assert made[1].unforeseen == "too few votes before it"


def test_a_version_that_pleases_both_is_not():
    data = judged({1: 300, 2: 150}, taste=0.2, shown={2: 0.9})
    found = foresee(data, version_of(data, 2), Fits(data, ENOUGH)).foreseen
    assert found is not None
    assert not found.above
    assert found.foreseen > 0.55


def test_only_the_last_few_versions_with_enough_votes_are_foreseen():
    data = voted({1: (20, 40), 2: (20, 40), 3: (1, 3), 4: (20, 40), 5: (20, 40)})
    assert [v.version for v in to_foresee(version_figures(data))] == [5, 4, 2]


def test_a_fit_takes_the_latest_answers_up_to_the_bound():
    data = judged({1: 200, 2: 60}, taste=0.2)
    watched = Watched(data, Bounds(answers=50, seconds=600.0))
    found = foresee(data, version_of(data, 2), watched).foreseen
    assert found is not None
    assert found.fitted_to == 50
    ((fitted, _),) = watched.seen
    assert min(v.time for v in fitted) > sorted(v.time for v in data.votes)[140]


def test_no_fit_begins_that_would_outlast_the_time():
    data = judged({1: 200, 2: 60}, taste=0.3)
    times = iter([0.0, 0.0, 1.6, 1.6])  # made; begin and end of a fit; the next begins
    short = Fits(data, Bounds(answers=2000, seconds=3.0), clock=lambda: next(times))
    assert discriminate(data, short).auroc is not None
    with pytest.raises(NoTime):
        foresee(data, version_of(data, 2), short)


def test_without_time_for_any_fit_that_is_said():
    data = judged({1: 200}, taste=0.3)
    times = iter([0.0, 9.0])
    late = Fits(data, Bounds(answers=2000, seconds=3.0), clock=lambda: next(times))
    assert discriminate(data, late).why_not == "there was no time"
