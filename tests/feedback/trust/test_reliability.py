"""Reliability follows agreement, is shrunk, and differs from one kind of prompts to the next."""

from collections.abc import Sequence

import pytest
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.reliability import reliabilities, weight_of
from burnish.feedback.trust.votes import Rater, Vote
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import vote

POLICY = TrustPolicy()
ANN = Rater("acme", "ann")
UNSURE = st.floats(-1, 1)
EXPECTED = st.lists(UNSURE, max_size=30)


def votes_of(agreements: Sequence[float], kind: str | None = None, first: int = 0) -> list[Vote]:
    """Ann's thumbs up on answers of which so much was expected."""
    return [
        Vote(n, vote("ann", f"i{n}", 1.0, n), 1.0, expected, kind)
        for n, expected in enumerate(agreements, first)
    ]


def reliability(agreements: Sequence[float]) -> float:
    newcomer = POLICY.prior_reliability
    return reliabilities(votes_of(agreements), POLICY).of_raters.get(ANN, newcomer)


@given(EXPECTED, st.floats(0, 1))
def test_agreeing_once_more_never_makes_less_reliable(before: list[float], more: float) -> None:
    assert reliability([*before, more]) >= reliability(before) - 1e-3


@given(EXPECTED, st.floats(-1, 0))
def test_contradicting_once_more_never_makes_more_reliable(
    before: list[float], less: float
) -> None:
    assert reliability([*before, less]) <= reliability(before) + 1e-3


def test_where_nothing_is_expected_nothing_is_learnt_of_the_rater() -> None:
    assert reliability([0.0] * 50) == pytest.approx(POLICY.prior_reliability, abs=1e-3)


def test_an_uncertain_expectation_teaches_little() -> None:
    assert reliability([-1.0] * 5) < reliability([-0.2] * 5) < POLICY.prior_reliability


def test_many_faint_contradictions_are_a_liars() -> None:
    assert reliability([-0.25] * 100) < 0.3


def test_one_kind_is_disbelieved_where_a_rater_lies_and_the_others_are_not() -> None:
    honest = votes_of([0.6] * 60, "poems")
    lies = votes_of([-0.6] * 20, "prices", first=60)
    found = reliabilities(honest + lies, POLICY)
    assert found.of(honest[0], 0.5) > 0.8
    assert found.of(lies[0], 0.5) < 0.5
    assert weight_of(found.of(lies[0], 0.5), POLICY) < 0.2


def test_weights_lie_between_the_floor_and_a_newcomers() -> None:
    assert weight_of(POLICY.prior_reliability, POLICY) == 1.0
    assert weight_of(0.99, POLICY) == 1.0
    assert weight_of(0.1, POLICY) == weight_of(0.5, POLICY) == POLICY.floor
