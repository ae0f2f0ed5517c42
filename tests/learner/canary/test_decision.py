"""Decisions: withdrawn for harm, promoted for evidence, ramped as far as little can be lost, else held with the reason."""

from __future__ import annotations

from random import Random

import pytest
from burnish.learner.canary.decision import ShadowResult, after_shadow, decide, ramped
from burnish.learner.canary.evidence import Evidence, Observation
from burnish.learner.canary.settings import CanarySettings
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = CanarySettings(users=400)
START = SETTINGS.shares[0]


def voted(ours: float, theirs: float, pairs: int, seed: int = 0) -> Evidence:
    rng, evidence = Random(seed), Evidence(SETTINGS)
    for _ in range(pairs):
        evidence.add(Observation("thumbs", "challenger", float(rng.random() < ours)))
        evidence.add(Observation("thumbs", "champion", float(rng.random() < theirs)))
    return evidence


def test_an_open_alarm_withdraws_at_once_whatever_people_like():
    decided = decide(
        SETTINGS, voted(0.9, 0.3, 200), share=START, hours=0.1, open_alarms=["answers got shorter"]
    )
    assert (decided.action, decided.why) == ("withdraw", "an alarm is open: answers got shorter")


def test_what_is_liked_less_is_withdrawn_also_while_paused():
    for paused in (None, "ada"):
        decided = decide(SETTINGS, voted(0.2, 0.7, 100), share=START, hours=0.1, paused=paused)
        assert decided.action == "withdraw"
        assert "people like it less" in decided.why


def test_what_is_liked_better_is_promoted_but_not_while_paused():
    liked = voted(0.8, 0.5, 200)
    assert decide(SETTINGS, liked, share=START, hours=0.1).action == "promote"
    held = decide(SETTINGS, liked, share=START, hours=0.1, paused="ada")
    assert (held.action, held.why) == ("hold", "ada has paused it")


@pytest.mark.parametrize(("undecided", "action"), [("keep", "end"), ("gate", "promote")])
def test_neither_better_after_all_users_is_an_end(undecided, action):
    settings = SETTINGS.model_copy(update={"undecided": undecided})
    decided = decide(settings, voted(0.6, 0.6, 400, seed=1), share=0.5, hours=0.1)
    assert decided.action == action
    assert "neither version is surely better" in decided.why


@pytest.mark.parametrize(("too_few", "action"), [("gate", "promote"), ("keep", "end")])
def test_too_few_votes_are_said_and_then_time_and_gate_decide(too_few, action):
    settings = SETTINGS.model_copy(update={"too_few": too_few})
    waiting = decide(settings, voted(0.6, 0.6, 3), share=START, hours=3)
    assert waiting.action == "hold"
    assert "3 of up to 400 users of each arm have voted: traffic is too little" in waiting.why
    decided = decide(settings, voted(0.6, 0.6, 3), share=START, hours=settings.hours)
    assert decided.action == action
    assert "too few to tell" in decided.why


def test_the_share_grows_as_less_can_be_lost():
    assert ramped(SETTINGS, -1.0, START) == 0.05
    assert ramped(SETTINGS, -0.45, START) == 0.1
    assert ramped(SETTINGS, -0.08, START) == 0.5
    decided = decide(SETTINGS, voted(0.6, 0.6, 60), share=START, hours=0.1)
    assert decided.action == "ramp"
    assert decided.share in SETTINGS.shares[1:]


@pytest.mark.parametrize(
    ("result", "hours", "action"),
    [
        (None, 0.5, "hold"),
        (None, 1.0, "ramp"),
        (ShadowResult("nothing was asked"), 0.1, "ramp"),
        (ShadowResult("thumbs fell", -0.05, -0.08, -0.02), 0.1, "ramp"),
        (ShadowResult("thumbs fell", -0.09, -0.12, -0.06), 0.1, "withdraw"),
    ],
)
def test_in_shadow_only_a_sure_loss_withdraws_it(result, hours, action):
    decided = after_shadow(CanarySettings(shadow=32), result, hours=hours)
    assert decided.action == action
    assert decided.share == (0.05 if action == "ramp" else None)
    assert after_shadow(SETTINGS, result, hours=hours, open_alarms=["x"]).action == "withdraw"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200))
def test_the_share_never_falls_and_never_risks_more_than_is_at_stake(votes):
    evidence, share = Evidence(SETTINGS), START
    for ours, theirs in votes:
        evidence.add(Observation("thumbs", "challenger", float(ours)))
        evidence.add(Observation("thumbs", "champion", float(theirs)))
        wanted = ramped(SETTINGS, evidence.lower, share)
        assert wanted >= share
        assert wanted * -evidence.lower <= SETTINGS.at_stake + 1e-9
        share = wanted


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 0.5))
def test_more_certainty_never_means_a_smaller_share(one, other, share):
    low, high = sorted((one, other))
    assert ramped(SETTINGS, low, share) <= ramped(SETTINGS, high, share)
