"""Votes per version, and the first version beside the latest."""

import pytest
from burnish.learner.report.data import ReportData
from burnish.learner.report.versions import FLOOR, POOL, survey

from tests.learner.report.rows import answer, key, update, vote, voted


def test_the_share_of_likes_comes_with_its_interval_and_its_votes():
    (first,) = survey(voted({1: (209, 380)})).versions
    assert first.liked is not None
    assert (round(first.liked.share, 2), first.liked.count, first.enough) == (0.55, 380, True)
    assert (first.liked.low, first.liked.high) == pytest.approx((0.4997, 0.5993), abs=1e-4)


def test_a_version_under_the_floor_is_not_looked_at():
    report = survey(voted({1: (20, FLOOR), 2: (29, FLOOR - 1)}))
    assert [v.enough for v in report.versions] == [True, False]
    assert report.comparison is None


def test_a_score_counts_in_part_and_a_sessions_vote_by_its_share():
    votes = [
        vote(key(1, 0), 0.25),
        vote(key(1, 1), 1.0, share=0.5),
        vote(key(1, 2), 0.0, share=0.5),
    ]
    liked = survey(ReportData(policy="p", at=0.0, votes=votes)).liked
    assert liked is not None
    assert (liked.count, liked.share) == (2.0, 0.375)


@pytest.mark.parametrize(
    ("likes", "outcome"),
    [
        ({1: (209, 380), 7: (262, 410)}, "more"),
        ({1: (262, 410), 7: (209, 380)}, "less"),
        ({1: (209, 380), 7: (240, 410)}, "no difference"),
    ],
)
def test_a_difference_whose_interval_is_clear_of_zero_is_one(likes, outcome):
    found = survey(voted(likes)).comparison
    assert found is not None
    assert (found.first, found.latest, found.outcome) == (1, [7], outcome)


def test_the_latest_versions_are_pooled_until_they_have_many_votes():
    found = survey(voted({1: (50, 100), **{v: (60, 100) for v in range(2, 10)}})).comparison
    assert found is not None
    assert found.latest == [7, 8, 9]
    assert found.now.count == 300 >= POOL


def test_the_first_version_is_never_in_the_pool():
    found = survey(voted({1: (50, 100), 2: (20, FLOOR)})).comparison
    assert found is not None
    assert (found.first, found.latest) == (1, [2])


def test_style_and_gate_are_told_per_version():
    answers = [answer(key(2, n), 2, tokens=n, refuses=n == 0, asks=n < 2) for n in range(4)]
    data = ReportData(policy="p", at=0.0, answers=answers, updates=[update(2), update(3, False)])
    second, third = survey(data).versions
    assert (second.tokens, second.answers) == (1.5, 4)
    assert second.refusals is not None
    assert second.questions is not None
    assert (second.refusals.share, second.questions.share) == (0.25, 0.5)
    assert (second.skill, second.kl, second.gate_passed) == (0.8, 0.02, True)
    assert (third.gate_passed, third.answers, third.liked) == (False, 0, None)
    assert second.without_features == 4


def test_people_are_counted_and_who_is_not_named_is_told():
    votes = [vote(key(1, n), rater="local/user/ann") for n in range(3)]
    votes.append(vote(key(1, 3), rater="local/of/chatcmpl-1", named=False))
    report = survey(ReportData(policy="p", at=0.0, votes=votes))
    assert (report.people, report.busiest, report.anonymous) == (2, 0.75, 0.25)
