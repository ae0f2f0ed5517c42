"""Which judgement stands: the last of one person on one thing under one name."""

import pytest
from burnish.feedback.judgements import Judgement, own_first, standing
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.conftest import thumbs
from tests.feedback.judged import judged

JUDGEMENTS = st.lists(
    st.builds(
        lambda user, name, session, choice, time, tenant, revision: judged(
            name,
            "up",
            user,
            id="fb",
            session_id=session,
            choice=choice,
            time=float(time),
            tenant=tenant,
            revision=revision,
        ),
        st.sampled_from(["ann", "ben", None]),
        st.sampled_from(["thumbs", "score"]),
        st.sampled_from([None, "s"]),
        st.integers(0, 1),
        st.integers(0, 3),
        st.sampled_from(["acme", "other"]),
        st.integers(0, 2),
    ),
    max_size=12,
)


def test_the_last_word_of_a_person_counts() -> None:
    down, up = judged(value="down", time=1.0), judged(value="up", time=2.0)
    assert standing([down, up]) == [up]
    assert standing([up, down]) == [up]


def test_people_names_and_answers_stand_apart() -> None:
    apart = [
        judged(),
        judged(user="ben"),
        judged("signal", "copied"),
        judged(choice=1),
        judged(interaction_id="i2"),
        judged(tenant="other"),
    ]
    assert set(standing(apart)) == set(apart)


def test_people_without_a_name_count_as_one() -> None:
    first, second = judged(user=None, time=1.0), judged(user=None, time=2.0)
    assert standing([first, second]) == [second]


def test_a_judgement_of_the_session_does_not_replace_one_of_the_answer() -> None:
    own = judged(value="up", time=1.0)
    session = judged(value="down", time=2.0, session_id="s", share=0.1)
    assert standing([own, session]) == [own, session]
    later = judged(value="up", time=3.0, session_id="s", share=0.1)
    assert standing([own, session, later]) == [own, later]


@pytest.mark.parametrize("own_at", [1.0, 9.0])
def test_for_an_answer_its_own_judgement_beats_the_sessions(own_at: float) -> None:
    own = judged(value="up", time=own_at)
    of_session = judged(value="down", time=5.0, session_id="s", share=0.1)
    bens = judged(value="down", user="ben", time=5.0, session_id="s", share=0.1)
    copied = judged("signal", "copied", time=6.0, session_id="s", share=0.1)
    assert set(own_first([own, of_session, bens, copied])) == {own, bens, copied}
    assert own_first([of_session, copied]) == [of_session, copied]
    signal = judged("signal", "copied", time=own_at)
    assert own_first([signal, of_session]) == [signal, of_session]


def test_taking_a_judgement_back_does_not_revive_the_one_before() -> None:
    first, second = judged(id="a", time=1.0), judged(id="b", time=2.0)
    assert standing([first, second], retracted={("acme", "b")}) == []
    assert standing([first, second], retracted={("acme", "a")}) == [second]
    assert standing([first, second], retracted={("other", "b")}) == [second]


def test_a_revision_replaces_what_was_sent_under_the_same_id() -> None:
    first, revised = judged(value="up", id="fb"), judged(value="down", id="fb", revision=1)
    assert standing([revised, first]) == [revised]
    assert revised.event_id == "acme/fb#1"


def test_an_event_and_the_judgement_made_of_it_have_one_place() -> None:
    event = thumbs(session_id="s", interaction_id=None, choice=3)
    judgement = judged(
        user=event.user, tenant=event.tenant, session_id="s", interaction_id="i9", choice=1
    )
    assert event.place == judgement.place
    own = thumbs(choice=3)
    assert own.place.target == own.interaction_id
    assert own.place.choice == 3


@given(JUDGEMENTS)
def test_one_stands_in_each_place_and_it_is_a_latest(judgements: list[Judgement]) -> None:
    kept = standing(judgements)
    assert {j.place for j in kept} == {j.place for j in judgements}
    assert len({j.place for j in kept}) == len(kept)
    for judgement in kept:
        rivals = [j for j in judgements if j.place == judgement.place]
        assert judgement.time == max(j.time for j in rivals)


@given(JUDGEMENTS, st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(judgements: list[Judgement], rng) -> None:
    shuffled = judgements[:]
    rng.shuffle(shuffled)
    values = [(j.place, j.time, j.revision) for j in standing(judgements)]
    assert sorted(map(repr, values)) == sorted(
        repr((j.place, j.time, j.revision)) for j in standing(shuffled)
    )


@given(JUDGEMENTS)
def test_what_stands_stands_when_asked_again(judgements: list[Judgement]) -> None:
    assert standing(standing(judgements)) == standing(judgements)
