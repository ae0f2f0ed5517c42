"""The canary's benchmark: its fixed test is the textbook's, and simulated canaries end."""

from __future__ import annotations

from burnish.learner.canary.settings import CanarySettings
from burnish.ops.bench.canary import fixed_votes, summary
from burnish.ops.bench.lib.simulated_canaries import Rates, run_canary

FEW = CanarySettings(users=60)


def test_a_fixed_test_of_five_points_takes_about_twelve_hundred_votes_of_each_arm():
    assert fixed_votes(0.60, 0.65) == 2 * 1198


def test_a_much_worse_version_is_withdrawn_before_half_of_the_users_have_it():
    outcomes = [run_canary(FEW, Rates(0.9, 0.1), seed) for seed in range(3)]
    told = summary(outcomes)
    assert (told["canaries"], told["withdrawn"]) == (3, 3)
    assert all(outcome.share < 0.5 and outcome.votes <= outcome.cast for outcome in outcomes)


def test_a_much_better_one_is_promoted_and_the_same_seed_tells_the_same():
    outcome = run_canary(FEW, Rates(0.1, 0.9), 1)
    assert outcome.action == "promote"
    assert outcome == run_canary(FEW, Rates(0.1, 0.9), 1)
