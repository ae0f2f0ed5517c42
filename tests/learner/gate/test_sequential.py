"""Confidence sequences: they hold at every look, whatever is guessed, and close in on the mean."""

import numpy as np
import pytest
from burnish.learner.gate.sequential import STEP, Bounds, Guess, LowerBound
from hypothesis import given
from hypothesis import strategies as st


def changes(rng: np.random.Generator, gain: float, loss: float, count: int) -> np.ndarray:
    """Paired differences of right and wrong."""
    return rng.choice([1.0, -1.0, 0.0], size=count, p=[gain, loss, 1 - gain - loss])


def test_before_anything_is_seen_everything_is_possible():
    bounds = Bounds(0.05)
    assert (bounds.lower, bounds.upper) == (-1.0, 1.0)


def test_a_mean_at_the_margin_is_refuted_as_rarely_as_promised_though_looked_at_always():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        bound = LowerBound(0.1)
        for _ in range(40):
            bound.add(changes(rng, 0.1, 0.2, 10), Guess(0.0, 0.3))
        wrong += bound.value > -0.1 + STEP / 2
    assert wrong / 300 <= 0.1


def test_families_of_different_means_are_bounded_by_their_average():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        bound = LowerBound(0.1)
        for _ in range(40):
            mixed = [*changes(rng, 0.3, 0.1, 5), *changes(rng, 0.0, 0.4, 5)]  # +.2 and -.4
            bound.add(mixed, Guess(0.0, 0.3))
        wrong += bound.value > -0.1 + STEP / 2
    assert wrong / 200 <= 0.1


def test_without_any_change_some_forty_tasks_show_that_no_tenth_was_lost():
    bound = LowerBound(0.05)
    for _ in range(5):
        bound.add([0.0] * 8, Guess(0.0, 0.01))
    assert -0.1 <= bound.value < 0.0


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0, 0.5]), max_size=60),
    st.floats(-1, 1),
    st.floats(0, 1),
)
def test_bounds_only_close_in_whatever_is_guessed(seen, mean, variance):
    bounds = Bounds(0.05)
    before = (bounds.lower, bounds.upper)
    for value in seen:
        bounds.add([value], Guess(mean, variance))
        assert bounds.lower >= before[0]
        assert bounds.upper <= before[1]
        before = (bounds.lower, bounds.upper)


def test_upper_and_lower_mirror_each_other():
    a, b = Bounds(0.05), Bounds(0.05)
    a.add([1.0] * 30, Guess(0.5, 0.1))
    b.add([-1.0] * 30, Guess(-0.5, 0.1))
    assert a.lower == pytest.approx(-b.upper)
    assert a.lower > 0.3
