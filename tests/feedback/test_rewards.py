"""What judgements are worth, as statements about people."""

import pytest
from burnish.feedback.events import SIGNALS
from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import reward_of
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import judged

UP, DOWN = judged("thumbs", "up"), judged("thumbs", "down")


@pytest.mark.parametrize(
    ("judgement", "value"),
    [
        (UP, 1.0), (DOWN, -1.0), (judged("score", 1.0), 1.0), (judged("score", 0.0), -1.0),
        (judged("score", 0.5), 0.0), (judged("score", 0.75), 0.5),
    ],
)  # fmt: skip
def test_explicit_judgements_count_in_full(judgement: Judgement, value: float) -> None:
    reward = reward_of([judgement])
    assert reward is not None
    assert (reward.value, reward.weight, reward.source) == (value, 1.0, judgement.name)


def test_silence_is_worth_nothing() -> None:
    assert reward_of([]) is None
    assert reward_of([judged("comment", "hm")]) is None
    assert reward_of([judged("signal", "followup")]) is None


def test_signals_lean_their_way_and_weigh_little() -> None:
    for signal in SIGNALS:
        reward = reward_of([judged("signal", signal)])
        if signal == "followup":
            assert reward is None
            continue
        assert reward is not None
        assert (reward.value > 0) == (signal == "copied")
        assert reward.weight <= 0.25
        assert reward.source == f"signal:{signal}"


def test_a_thumb_outweighs_what_was_done_in_passing() -> None:
    reward = reward_of([DOWN, judged("signal", "copied")])
    assert reward is not None
    assert reward.value < -0.5
    assert reward.source == "thumbs"


def test_a_correction_is_a_mild_no() -> None:
    reward, down = reward_of([judged("correction", "Four.")]), reward_of([DOWN])
    assert reward is not None
    assert down is not None
    assert down.value < reward.value < 0


def test_a_preference_is_half_a_vote_for_one_and_against_the_other() -> None:
    better, worse = (
        reward_of([judged("preference", "better")]),
        reward_of([judged("preference", "worse")]),
    )
    assert better is not None
    assert worse is not None
    assert (better.value, worse.value) == (1.0, -1.0)
    assert better.weight == worse.weight == 0.5
    assert reward_of([judged("preference", "tie")]) is None


def test_users_are_averaged() -> None:
    mixed = reward_of([UP, judged("thumbs", "down", "ben"), judged("thumbs", "down", "cid")])
    assert mixed is not None
    assert mixed.value == pytest.approx(-1 / 3)
    assert mixed.weight == 1.0


def test_those_who_are_not_trusted_move_little() -> None:
    mallory = judged("thumbs", "down", "mallory")
    reward = reward_of([UP, mallory], [1.0, 0.05])
    assert reward is not None
    assert reward.value > 0.9
    alone = reward_of([mallory], [0.05])
    assert alone is not None
    assert alone.weight == pytest.approx(0.05)
    assert reward_of([DOWN], [0.0]) is None


def test_a_judgement_in_quarantine_stays_there_when_its_user_says_something_else() -> None:
    reward = reward_of([DOWN, judged("signal", "copied")], [0.0, 1.0])
    assert reward is not None
    assert (reward.value, reward.weight, reward.source) == (0.5, 0.2, "signal:copied")


def test_a_session_adds_its_share_to_what_was_said_of_the_answer_itself() -> None:
    session = judged("thumbs", "down", session_id="s", share=0.1, time=9.0)
    alone = reward_of([session])
    assert alone is not None
    assert (alone.value, alone.weight) == (-1.0, pytest.approx(0.1))
    both = reward_of([UP, session])
    assert both is not None
    assert both.value == pytest.approx(0.9 / 1.1)
    assert both.weight == 1.0


JUDGEMENTS = st.lists(
    st.builds(
        lambda pair, user, share: judged(pair[0], pair[1], user, share=share),
        st.one_of(
            st.tuples(st.just("thumbs"), st.sampled_from(["up", "down"])),
            st.tuples(st.just("score"), st.floats(0, 1)),
            st.tuples(st.just("signal"), st.sampled_from(SIGNALS)),
            st.tuples(st.sampled_from(["comment", "correction"]), st.just("text")),
        ),
        st.sampled_from(["ann", "ben", None]),
        st.sampled_from([1.0, 0.5, 0.01]),
    ),
    max_size=8,
)


@given(JUDGEMENTS, st.data())
def test_rewards_stay_in_bounds(judgements: list[Judgement], data: st.DataObject) -> None:
    size = len(judgements)
    reward = reward_of(
        judgements, data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
    )
    if reward is not None:
        assert -1 <= reward.value <= 1
        assert 0 < reward.weight <= 1
        assert reward.source


@given(JUDGEMENTS)
def test_one_more_thumb_up_never_lowers_a_reward(judgements: list[Judgement]) -> None:
    before = reward_of(judgements)
    after = reward_of([*judgements, judged("thumbs", "up", "someone new")])
    assert after is not None
    assert before is None or after.value >= before.value - 1e-12
