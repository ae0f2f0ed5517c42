"""Failed requests: a coin decides whose they are, unless the challenger is at fault."""

from __future__ import annotations

from random import Random

import pytest
from burnish.learner.canary.failures import capital
from hypothesis import given
from hypothesis import strategies as st


def test_an_outage_of_both_arms_says_nothing_and_ten_users_of_one_do():
    assert capital(0, 0) == 1
    assert capital(50, 50) < 1
    assert capital(9, 0) < 333 < capital(10, 0)


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_toss_of_the_coin_is_a_fair_bet(challenger, control):
    expected = (capital(challenger + 1, control) + capital(challenger, control + 1)) / 2
    assert expected == pytest.approx(capital(challenger, control))


def test_failures_that_are_nobodys_fault_are_as_rarely_taken_for_one_as_promised():
    rng, wrong = Random(1), 0
    for _ in range(1000):
        failed = [0, 0]
        for _ in range(100):
            failed[rng.random() < 0.5] += 1
            if capital(*failed) >= 20:
                wrong += 1
                break
    assert wrong / 1000 <= 0.05 + 0.014
