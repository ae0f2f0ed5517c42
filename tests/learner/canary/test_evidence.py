"""Evidence: users of the two arms, one against one, whatever their order."""

from __future__ import annotations

import pytest
from burnish.learner.canary.evidence import METRICS, SHARES, ArmName, Evidence, Observation
from burnish.learner.canary.settings import CanarySettings
from hypothesis import given
from hypothesis import strategies as st

ARMS: tuple[ArmName, ...] = ("challenger", "champion")
arms = st.sampled_from(ARMS)


def told(evidence: Evidence, metric, ours: float, theirs: float, times: int) -> Evidence:
    for _ in range(times):
        evidence.add(Observation(metric, "champion", theirs))
        evidence.add(Observation(metric, "challenger", ours))
    return evidence


def test_the_tests_share_what_errors_are_allowed():
    assert sum(SHARES.values()) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.sampled_from(METRICS), arms, st.floats(0, 1)), max_size=60))
def test_users_are_counted_by_arm_and_compared_one_by_one(seen):
    evidence = Evidence(CanarySettings())
    for metric, arm, value in seen:
        evidence.add(Observation(metric, arm, value))
    for metric in METRICS:
        for arm in ARMS:
            values = [v for m, a, v in seen if (m, a) == (metric, arm)]
            assert evidence.users(metric, arm) == len(values)
            if values:
                assert evidence.mean(metric, arm) == pytest.approx(sum(values) / len(values))
    assert evidence.voters == min(
        evidence.users("thumbs", "challenger"), evidence.users("thumbs", "champion")
    )


@given(st.lists(st.tuples(arms, st.booleans()), max_size=60))
def test_bounds_only_close_in_and_arms_mirror_each_other(seen):
    evidence, mirrored = Evidence(CanarySettings()), Evidence(CanarySettings())
    other: dict[ArmName, ArmName] = {"challenger": "champion", "champion": "challenger"}
    before = (-1.0, 1.0)
    for arm, liked in seen:
        evidence.add(Observation("thumbs", arm, float(liked)))
        mirrored.add(Observation("thumbs", other[arm], float(liked)))
        assert evidence.lower >= before[0]
        assert evidence.upper <= before[1]
        assert evidence.lower == pytest.approx(-mirrored.upper)
        before = (evidence.lower, evidence.upper)


@pytest.mark.parametrize(
    ("metric", "ours", "theirs", "harm"),
    [
        ("thumbs", 0.0, 1.0, "thumbs"),
        ("signal", 0.0, 1.0, "signal"),
        ("seconds", 4.0, 1.0, "slower"),
        ("tokens", 90.0, 30.0, "longer"),
        ("tokens", 10.0, 30.0, "shorter"),
    ],
)
def test_each_kind_of_harm_is_found(metric, ours, theirs, harm):
    assert told(Evidence(CanarySettings()), metric, ours, theirs, 60).worse == [harm]


@pytest.mark.parametrize(
    ("metric", "ours", "theirs"),
    [("seconds", 1.2, 1.0), ("tokens", 36.0, 30.0), ("tokens", 25.0, 30.0)],
)
def test_what_is_allowed_is_no_harm(metric, ours, theirs):
    assert told(Evidence(CanarySettings()), metric, ours, theirs, 400).worse == []


def test_failures_of_the_challengers_users_are_harm_for_good():
    evidence = Evidence(CanarySettings())
    evidence.count_failures(10, 0)
    evidence.count_failures(10, 10)
    assert evidence.worse == ["failures"]
    assert evidence.failed == {"challenger": 10, "champion": 10}
