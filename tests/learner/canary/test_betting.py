"""Bets: capital that grows by chance as rarely as promised, at whatever moment one stops, and soon where it should."""

from __future__ import annotations

from random import Random

import pytest
from burnish.learner.canary.betting import DeadlineTest, MixtureTest
from hypothesis import given
from hypothesis import strategies as st

differences = st.lists(st.floats(-1, 1), max_size=80)


def thumbs(rng: Random, ours: float, theirs: float) -> float:
    return float(rng.random() < ours) - float(rng.random() < theirs)


@pytest.mark.parametrize(
    "make", [lambda: DeadlineTest(0.1, 200), lambda: MixtureTest(0.1)], ids=["deadline", "mixture"]
)
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_two_alike_are_told_apart_as_rarely_as_promised_though_looked_at_always(make, rate):
    rng, wrong, repeats = Random(3), 0, 400
    for _ in range(repeats):
        test = make()
        wrong += any(_won_after(test, thumbs(rng, rate, rate)) for _ in range(200))
    assert wrong / repeats <= 0.1 + 2 * (0.1 * 0.9 / repeats) ** 0.5


@given(st.sampled_from([0.2, 0.05, 0.01]), st.integers(1, 3), st.data())
def test_no_bet_can_be_expected_to_win_where_nothing_differs(alpha, most, data):
    """The mean of capital over all that may come next is what it was: so its limit is Ville's."""
    seen = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=30))

    def after(more: float, make) -> float:
        test = make()
        for difference in [*seen, more]:
            test.add(difference)
        return test.capital

    for make in (lambda: DeadlineTest(alpha, 40), lambda: MixtureTest(alpha)):
        before = make()
        for difference in seen:
            before.add(difference)
        expected = sum(p * after(d, make) for d, p in ((-1.0, 0.25), (0.0, 0.5), (1.0, 0.25)))
        assert expected == pytest.approx(before.capital, rel=1e-9)


@given(differences, st.integers(1, 60))
def test_capital_is_never_lost_entirely_nor_bet_beyond_the_goal(seen, count):
    test = DeadlineTest(0.05, count)
    for difference in seen:
        test.add(difference)
        assert 0 < test.capital <= 20 * (1 + 1e-6)
    assert test.seen <= count


@given(differences, st.floats(-0.9, 0.9))
def test_what_was_refuted_stays_so(seen, most):
    test, won = MixtureTest(0.2, most), False
    for difference in seen:
        test.add(difference)
        assert test.capital > 0
        assert won <= test.won
        won = test.won


def test_a_deadline_is_nearly_as_good_as_a_test_of_fixed_size():
    """A test of fixed size with this many pairs finds .5 -> .65 in four of five cases, at alpha .05."""
    rng, found, pairs = Random(5), 0, round(1.3 * 131)
    for _ in range(200):
        test = DeadlineTest(0.05, pairs)
        found += any(_won_after(test, thumbs(rng, 0.65, 0.5)) for _ in range(pairs))
    assert found / 200 >= 0.8


def test_a_large_loss_shows_within_some_dozens():
    rng, test = Random(7), MixtureTest(0.005)
    while not test.won:
        test.add(-thumbs(rng, 0.3, 0.6))
    assert test.seen < 200


def test_a_margin_is_allowed():
    rng, test = Random(8), MixtureTest(0.05, 0.2)
    for _ in range(2000):
        test.add(thumbs(rng, 0.6, 0.5))
    assert not test.won


def _won_after(test: DeadlineTest | MixtureTest, difference: float) -> bool:
    test.add(difference)
    return test.won
