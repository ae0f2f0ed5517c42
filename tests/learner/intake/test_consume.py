"""Late, double, out of order, retracted, unreadable: what the intake makes of it."""

import itertools
from datetime import timedelta

import pytest
from burnish.feedback.contract import FEEDBACK, INTERACTIONS, USER_KEYS
from burnish.feedback.events import Completion, encode
from burnish.feedback.stream.deadletters import letters
from burnish.feedback.stream.event_stream import StreamRecord
from burnish.feedback.stream.sealing import SealingStream
from burnish.feedback.stream.user_keys import UserKeys
from burnish.feedback.trust.weighing import weigh
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.intake.rows import interaction_row
from burnish.learner.reward.experience import Experience, load, weighed
from burnish.learner.tables import CreditRow, ExperienceRow, InteractionRow, OffsetRow
from sqlalchemy import select

from tests.learner.conftest import START, interaction, retraction, thumbs


@pytest.fixture
def take(database: Database, stream, lease_on):
    def run():
        with lease_on(database) as lease:
            return consume(database, stream, lease)

    return run


def experience(database) -> list[Experience]:
    with database.read() as session:
        judged = load(session, "default", champion=1, limit=1000, max_staleness=1000)
    judgements = [judgement for answer in judged for judgement in answer.judgements]
    return weighed(judged, weigh(judgements)).experience


def rewards(database) -> dict[str, float]:
    return {one.interaction_id: one.reward for one in experience(database)}


def test_an_interaction_and_its_thumb_become_experience(database, stream, take):
    stream.publish([encode(interaction(1)), encode(thumbs(1, "down"))])
    tick = take()
    assert tick.counts == {"interactions": 1, "judgements": 1}
    assert rewards(database) == {"chatcmpl-0001": -1.0}


def test_nothing_there_is_no_tick(take):
    assert take() is None


def test_what_arrives_meanwhile_is_the_next_ticks(stream, take, monkeypatch):
    numbers, read = itertools.count(1), stream.read

    def one_more(*asked):
        found = read(*asked)
        stream.publish([encode(interaction(next(numbers)))])
        return found

    stream.publish([encode(interaction(next(numbers)))])
    monkeypatch.setattr(stream, "read", one_more)
    assert take().counts["interactions"] < 5


def test_feedback_waits_for_its_interaction(database, stream, take):
    stream.publish([encode(thumbs(1))])
    take()
    assert rewards(database) == {}
    stream.publish([encode(interaction(1))])
    take()
    assert rewards(database) == {"chatcmpl-0001": 1.0}


def test_what_nobody_can_read_any_more_is_counted_as_erased(
    database, stream, lease_on, redis_url, redis_client
):
    sealing = SealingStream(stream, keys := UserKeys(redis_url))
    sealing.publish([encode(interaction(1)), encode(thumbs(1)), encode(interaction(2, user="bob"))])
    keys.destroy("local", "ada")
    with lease_on(database) as lease:
        tick = consume(database, sealing, lease)
    assert tick is not None
    assert tick.counts == {"interactions": 1, "erased": 2}
    assert list(letters(stream, INTERACTIONS)) == list(letters(stream, FEEDBACK)) == []
    redis_client.flushall()
    sealing.publish([encode(interaction(3))])
    redis_client.delete(USER_KEYS)
    with lease_on(database) as lease:
        lost = consume(database, sealing, lease)
    assert lost is not None
    assert lost.counts == {"unreadable": 1}
    [letter] = letters(stream, INTERACTIONS)
    assert "not in Redis" in letter.headers["dlt_message"]
    keys.close()


def test_what_is_delivered_again_changes_nothing(database, stream, take):
    events = [encode(interaction(1)), encode(thumbs(1)), encode(retraction(2))]
    stream.publish(events)
    take()
    stream.publish(events)
    assert take().counts == {"repeats": 3}
    assert len(rewards(database)) == 1


def test_the_last_word_counts_whatever_comes_last(database, stream, take):
    later = thumbs(2, "down", on=1)
    stream.publish([encode(interaction(1)), encode(later)])
    take()
    stream.publish([encode(thumbs(1, "up"))])
    take()
    assert rewards(database) == {"chatcmpl-0001": -1.0}


def test_two_people_are_two_judgements(database, stream, take):
    stream.publish(
        [
            encode(interaction(1)),
            encode(thumbs(1, "up")),
            encode(thumbs(2, "down", on=1, user="bob")),
        ]
    )
    take()
    with database.read() as session:
        assert len(session.scalars(select(CreditRow)).all()) == 2
    assert -1 < rewards(database)["chatcmpl-0001"] < 1


def test_a_revision_replaces_and_an_older_one_does_not_come_back(database, stream, take):
    stream.publish([encode(interaction(1)), encode(thumbs(1, "down", revision=1))])
    take()
    stream.publish([encode(thumbs(1, "up"))])
    take()
    assert rewards(database) == {"chatcmpl-0001": -1.0}


@pytest.mark.parametrize("first", ["feedback", "retraction"])
def test_a_retraction_takes_back_what_was_given_before_in_either_order(
    database, stream, take, first
):
    events = [encode(thumbs(1)), encode(retraction(1))]
    stream.publish([encode(interaction(1))])
    for event in events if first == "feedback" else events[::-1]:
        stream.publish([event])
        take()
    assert rewards(database) == {}
    with database.read() as session:
        assert session.scalars(select(CreditRow)).all() == []


def test_taking_back_the_last_word_does_not_revive_the_one_before(database, stream, take):
    stream.publish(
        [
            encode(interaction(1)),
            encode(thumbs(1, "up")),
            encode(thumbs(2, "down", on=1)),
            encode(retraction(2, interaction_id="chatcmpl-0001")),
        ]
    )
    take()
    assert rewards(database) == {}


def test_feedback_of_another_tenant_is_not_joined(database, stream, take):
    stream.publish([encode(interaction(1)), encode(thumbs(1, tenant="mallory"))])
    take()
    assert rewards(database) == {}


def test_a_sessions_judgement_is_shared_by_its_answers(database, stream, take):
    about = thumbs(1, "down", interaction_id=None, session_id="s")
    stream.publish([encode(about), encode(interaction(1, session_id="s"))])
    take()
    stream.publish([encode(interaction(2, session_id="s"))])
    take()
    assert [one.weight for one in experience(database)] == [0.5, 0.5]
    with database.read() as session:
        numbers = {row.seq for row in session.scalars(select(CreditRow))}
    assert len(numbers) == 1, "one judgement is new once, however many answers it is about"


@pytest.mark.parametrize("own_minute", [1, 9])
def test_a_sessions_judgement_leaves_an_answers_own_alone(database, stream, take, own_minute):
    own = thumbs(1, "up", time=START + timedelta(minutes=own_minute))
    about = thumbs(
        2, "down", interaction_id=None, session_id="s", time=START + timedelta(minutes=5)
    )
    answers = [interaction(number, session_id="s") for number in range(1, 11)]
    stream.publish([encode(event) for event in (*answers, own, about)])
    take()
    found = {one.interaction_id: (one.reward, one.weight) for one in experience(database)}
    assert found.pop("chatcmpl-0001") == (1.0, 1.0)
    assert list(found.values()) == [(-1.0, pytest.approx(0.1))] * 9
    stream.publish([encode(retraction(1, time=START + timedelta(minutes=10)))])
    take()
    assert rewards(database)["chatcmpl-0001"] == -1.0


def test_each_choice_has_its_own_judgement(database, stream, take):
    answers = [
        Completion(index=i, token_ids=[4 + i], logprobs=[-1.0], text="x", finish_reason="stop")
        for i in range(2)
    ]
    stream.publish(
        [encode(interaction(1, completions=answers)), encode(thumbs(1, "down", choice=1))]
    )
    take()
    assert [(one.choice, one.reward) for one in experience(database)] == [(1, -1.0)]


def test_a_record_that_our_own_code_stumbles_over_holds_up_nobody(
    sqlite, stream, lease_on, monkeypatch
):
    def stumble(event):
        if event.id == "chatcmpl-0002":
            raise KeyError("nobody foresaw this")
        return interaction_row(event)

    monkeypatch.setattr("burnish.learner.intake.upsert.interaction_row", stumble)
    stream.publish([encode(interaction(number)) for number in (1, 2, 3)])
    with lease_on(sqlite) as lease:
        tick = consume(sqlite, stream, lease)
    assert tick is not None
    assert tick.counts == {"interactions": 2, "unreadable": 1}
    (letter,) = letters(stream, INTERACTIONS)
    assert letter.event_id == "chatcmpl-0002"
    assert letter.headers["dlt_exception"] == "KeyError"


def test_a_comment_alone_makes_no_experience(database, stream, take):
    comment = thumbs(1, name="comment", value="hm")
    stream.publish([encode(interaction(1)), encode(comment)])
    take()
    with database.read() as session:
        assert session.scalars(select(ExperienceRow)).all() == []


def test_unreadable_records_go_to_the_dead_letters_and_the_rest_goes_on(database, stream, take):
    broken = StreamRecord(topic=FEEDBACK, key="k", value=b"{", headers=encode(thumbs(7)).headers)
    stranger = StreamRecord(topic=INTERACTIONS, key="k", value=b"hello")
    stream.publish([broken, encode(thumbs(1)), stranger, encode(interaction(1))])
    tick = take()
    assert tick.counts["unreadable"] == 2
    assert "dead letters" in tick.did
    assert len(rewards(database)) == 1
    assert len(list(letters(stream, FEEDBACK))) == 1
    assert len(list(letters(stream, INTERACTIONS))) == 1


def test_what_the_database_refuses_does_not_hold_up_the_others(database, stream, take):
    twice = [
        Completion(index=0, token_ids=[1], text="x", finish_reason="stop"),
        Completion(index=0, token_ids=[2], text="y", finish_reason="stop"),
    ]
    stream.publish(
        [
            encode(interaction(1)),
            encode(interaction(2, completions=twice)),
            encode(interaction(3).model_copy(update={"version": 2**70})),
            encode(interaction(4)),
        ]
    )
    tick = take()
    assert tick.counts == {"interactions": 2, "unreadable": 2}
    assert take() is None


def test_a_nul_character_is_no_reason_to_stop(database, stream, take):
    stream.publish([encode(interaction(1)), encode(thumbs(1, rationale="a\x00b"))])
    assert take().counts == {"interactions": 1, "judgements": 1}


def test_what_was_stored_is_trimmed_from_the_stream(database, stream, take):
    stream.publish([encode(interaction(1))])
    take()
    assert stream.end_offset(INTERACTIONS, 0) is None


def test_a_tick_that_dies_before_its_commit_leaves_nothing(database, stream, lease_on, monkeypatch):
    stream.publish([encode(interaction(1))])
    monkeypatch.setattr("burnish.learner.intake.upsert.refresh", lambda *_: 1 / 0)
    with lease_on(database) as lease, pytest.raises(ZeroDivisionError):
        consume(database, stream, lease)
    with database.read() as session:
        assert session.scalars(select(InteractionRow)).all() == []
        assert session.scalars(select(OffsetRow)).all() == []
    monkeypatch.undo()
    with lease_on(database) as lease:
        tick = consume(database, stream, lease)
    assert tick is not None
    assert tick.counts == {"interactions": 1}


def test_a_tick_that_dies_after_its_commit_loses_nothing(database, stream, take, monkeypatch):
    monkeypatch.setattr(stream, "trim", lambda *_: 1 / 0)
    stream.publish([encode(interaction(1))])
    with pytest.raises(ZeroDivisionError):
        take()
    monkeypatch.undo()
    stream.publish([encode(interaction(2))])
    assert take().counts == {"interactions": 1}


def test_who_lost_the_lease_writes_nothing(database, stream, lease_on, redis_client):
    from burnish.learner.lease import LeaseLost

    stream.publish([encode(interaction(1))])
    with lease_on(database) as slow:
        redis_client.delete("burnish:lease:intake")
        with lease_on(database) as quick:
            consume(database, stream, quick)
        stream.publish([encode(interaction(2))])
        with pytest.raises(LeaseLost):
            consume(database, stream, slow)
    with database.read() as session:
        assert [row.id for row in session.scalars(select(InteractionRow))] == ["chatcmpl-0001"]


def test_days_late_is_as_good_as_at_once(database, stream, take):
    stream.publish([encode(interaction(1))])
    take()
    stream.publish([encode(thumbs(1, time=START + timedelta(days=9)))])
    take()
    assert rewards(database) == {"chatcmpl-0001": 1.0}
