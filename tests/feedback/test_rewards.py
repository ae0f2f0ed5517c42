"""What judgements are worth, as statements about people."""

from datetime import UTC, datetime, timedelta

import pytest
from burnish.feedback.events import SIGNALS
from burnish.feedback.rewards import Judgement, correction_of, reward_of
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.conftest import thumbs

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def said(name: str, value: float | str, user: str | None = "ann", minutes: float = 0) -> Judgement:
    return Judgement(name, value, user, NOON + timedelta(minutes=minutes))


UP, DOWN = said("thumbs", "up"), said("thumbs", "down")


@pytest.mark.parametrize(
    ("judgement", "value"),
    [
        (UP, 1.0), (DOWN, -1.0), (said("score", 1.0), 1.0), (said("score", 0.0), -1.0),
        (said("score", 0.5), 0.0), (said("score", 0.75), 0.5),
    ],
)  # fmt: skip
def test_explicit_judgements_count_in_full(judgement: Judgement, value: float) -> None:
    reward = reward_of([judgement])
    assert reward is not None
    assert (reward.value, reward.weight, reward.source) == (value, 1.0, judgement.name)


def test_silence_is_worth_nothing() -> None:
    assert reward_of([]) is None
    assert reward_of([said("comment", "hm")]) is None
    assert reward_of([said("signal", "followup")]) is None


def test_signals_lean_their_way_and_weigh_little() -> None:
    for signal in SIGNALS:
        reward = reward_of([said("signal", signal)])
        if signal == "followup":
            assert reward is None
            continue
        assert reward is not None
        assert (reward.value > 0) == (signal == "copied")
        assert reward.weight <= 0.25
        assert reward.source == f"signal:{signal}"


def test_a_thumb_outweighs_what_was_done_in_passing() -> None:
    reward = reward_of([DOWN, said("signal", "copied")])
    assert reward is not None
    assert reward.value < -0.5
    assert reward.source == "thumbs"


def test_a_correction_is_a_mild_no_and_keeps_its_text() -> None:
    judgements = [said("correction", "Four."), said("correction", "4", "ben", 5)]
    reward = reward_of(judgements)
    down = reward_of([DOWN])
    assert reward is not None
    assert down is not None
    assert down.value < reward.value < 0
    assert correction_of(judgements) == "4"
    assert correction_of([UP]) is None


def test_the_last_word_of_a_user_counts() -> None:
    changed = [said("thumbs", "down"), said("thumbs", "up", minutes=1)]
    assert reward_of(changed) == reward_of([UP])
    assert reward_of(changed[::-1]) == reward_of([UP])


def test_users_are_averaged() -> None:
    mixed = reward_of([UP, said("thumbs", "down", "ben"), said("thumbs", "down", "cid")])
    assert mixed is not None
    assert mixed.value == pytest.approx(-1 / 3)
    assert mixed.weight == 1.0


def test_those_who_are_not_believed_move_little() -> None:
    judgements = [UP, said("thumbs", "down", "mallory")]
    reward = reward_of(judgements, {"ann": 1.0, "mallory": 0.05})
    assert reward is not None
    assert reward.value > 0.9
    alone = reward_of([said("thumbs", "down", "mallory")], {"mallory": 0.05})
    assert alone is not None
    assert alone.weight == pytest.approx(0.05)
    assert reward_of([DOWN], 0.0) is None


def test_events_are_judgements() -> None:
    reward = reward_of([thumbs("up")])
    assert reward is not None
    assert reward.value == 1.0


JUDGEMENTS = st.lists(
    st.builds(
        lambda pair, user, minute: said(pair[0], pair[1], user, minute),
        st.one_of(
            st.tuples(st.just("thumbs"), st.sampled_from(["up", "down"])),
            st.tuples(st.just("score"), st.floats(0, 1)),
            st.tuples(st.just("signal"), st.sampled_from(SIGNALS)),
            st.tuples(st.sampled_from(["comment", "correction"]), st.just("text")),
        ),
        st.sampled_from(["ann", "ben", None]),
        st.integers(0, 5),
    ),
    max_size=8,
)


@given(JUDGEMENTS, st.dictionaries(st.sampled_from(["ann", "ben", None]), st.floats(0, 1)))
def test_rewards_stay_in_bounds(judgements: list[Judgement], trust: dict) -> None:
    reward = reward_of(judgements, trust)
    if reward is not None:
        assert -1 <= reward.value <= 1
        assert 0 < reward.weight <= 1
        assert 0 < reward.trust <= 1
        assert reward.source


@given(JUDGEMENTS)
def test_one_more_thumb_up_never_lowers_a_reward(judgements: list[Judgement]) -> None:
    before = reward_of(judgements)
    after = reward_of([*judgements, said("thumbs", "up", "someone new")])
    assert after is not None
    assert before is None or after.value >= before.value - 1e-12
