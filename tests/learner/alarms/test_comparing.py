"""A comparison says nothing where nothing changed, however often it is made, and sees what did change."""

import numpy as np
import pytest
from burnish.learner.alarms.comparing import Band, compare, interval
from hypothesis import given, settings
from hypothesis import strategies as st

RATES = (0.02, 0.3, 0.9)


@pytest.mark.parametrize("rate", RATES)
def test_where_nothing_changed_it_is_outside_with_a_chance_of_at_most_alpha(rate: float):
    alpha, epochs = 0.1, 150
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(epochs):
        now, before = (rng.random(200) < rate).astype(float), (rng.random(200) < rate).astype(float)
        looks = (
            compare(now[:seen].tolist(), before.tolist(), Band(more=0.0), alpha)
            for seen in (25, 60, 200)
        )
        wrong += any(look.outside for look in looks)
    # 150 epochs of which each errs one time in ten: more than 26 in one of a thousand runs.
    assert wrong <= 26


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.floats(0, 0.5),
)
@settings(max_examples=40, deadline=None)
def test_bounds_hold_the_mean_and_it_is_never_both(now, before, more):
    found = compare(now, before, Band(more=more), 0.01)
    for of, values in ((found.now, now), (found.before, before)):
        assert 0 <= of.low <= of.high <= 1
        assert of.mean == pytest.approx(sum(values) / len(values))
    assert not (found.outside and found.inside)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(1e-6, 0.2))
@settings(max_examples=40, deadline=None)
def test_who_wants_to_be_surer_gets_wider_bounds(values, alpha):
    wide, narrow = interval(values, alpha / 10), interval(values, alpha)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@pytest.mark.parametrize(
    ("band", "now"),
    [(Band(more=0.05), 0.25), (Band(least=0.5, most=1.6), 0.9), (Band(least=0.5), 0.05)],
)
def test_a_change_past_the_band_is_seen_within_an_epoch(band: Band, now: float):
    rng = np.random.default_rng(1)
    before = 0.05 if band.more else 0.4
    theirs = (rng.random(1000) < before).astype(float).tolist()
    ours = (rng.random(500) < now).astype(float).tolist()
    assert compare(ours, theirs, band, 0.001).outside


def test_what_surely_lies_in_its_band_is_said_to():
    rng = np.random.default_rng(2)
    ours, theirs = ((rng.random(1000) < 0.02).astype(float).tolist() for _ in range(2))
    assert compare(ours, theirs, Band(more=0.05), 0.001).inside


def test_of_nothing_everything_is_possible():
    found = interval([], 0.05)
    assert (found.low, found.high) == (0.0, 1.0)
