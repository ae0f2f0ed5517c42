"""The canary's benchmark: its fixed test is the textbook's, and simulated canaries end."""

from __future__ import annotations

from burnish.learner.canary.evidence import ArmName, Observation
from burnish.learner.canary.settings import CanarySettings
from burnish.ops.bench.canary import fixed_votes, goals_under_load, summary
from burnish.ops.bench.lib.harmful_version import Seen, Vote, evidence_in_at, figures_of
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


def test_the_evidence_is_in_with_the_vote_that_completes_it():
    arms: tuple[ArmName, ...] = ("challenger", "champion")
    votes = [(float(at), Observation("thumbs", arms[at % 2], float(at % 2))) for at in range(200)]
    at = evidence_in_at(votes, CanarySettings())
    assert at is not None
    assert 10 < at < 60
    enough = int(at) + 1
    assert evidence_in_at(votes[:enough], CanarySettings()) == at
    assert evidence_in_at(votes[: enough - 1], CanarySettings()) is None


def test_the_load_is_told_by_version_and_a_request_that_failed_misses_the_goal():
    seen = Seen([Vote(1.0, "default@2", False), Vote(2.0, "default@1", True)], ["refused"])
    told = {"says": "withdrew default@2", "last": {"state": "withdrawn", "figures": {}}}
    figures = figures_of(seen, 2, 0.0, 30.0, told, 10.0)
    assert figures["from_evidence_to_withdrawal_s"] == 20.0
    assert (figures["its_thumbs_rate"], figures["the_champions_thumbs_rate"]) == (0.0, 1.0)
    assert [shown.met for shown in goals_under_load(figures)] == [True, False, True]
    late = figures_of(seen, 2, 0.0, 80.0, told, 10.0)
    assert not goals_under_load(late)[0].met
    never = figures_of(seen, 2, 0.0, None, told, 10.0)
    assert not goals_under_load(never)[0].met
