"""What a user said next is found in the session, or by a prompt that goes on from the answer."""

import pytest
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward.experience import JudgedAnswer, load
from burnish.learner.reward.next_turns import next_turns, unjudged

from tests.learner.conftest import interaction, thumbs

SAID = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "No, in French."},
]


def put(database: Database, *events) -> None:
    with database.write() as session:
        upsert(session, events)


def judged(database: Database) -> list[JudgedAnswer]:
    with database.read() as session:
        return load(session, "default", champion=1, limit=99, max_staleness=9)


def found(database: Database) -> dict[str, str]:
    answers = judged(database)
    with database.read() as session:
        return {id: turn.text for id, turn in next_turns(session, "default", answers).items()}


def test_the_next_interaction_of_the_session_is_the_next_turn(database: Database):
    put(database, interaction(1, session_id="s"), thumbs(1))
    put(database, interaction(2, session_id="s", messages=SAID, prompt_ids=[9]))
    put(database, interaction(3, session_id="s", messages=[*SAID, *SAID[1:]], prompt_ids=[9, 9]))
    assert found(database) == {"chatcmpl-0001": "No, in French."}


def test_without_a_session_it_is_the_prompt_that_goes_on_from_the_answer(database: Database):
    put(database, interaction(1, prompt_ids=[1, 2, 3]), thumbs(1))  # answered 4, 5
    put(database, interaction(4, messages=SAID, prompt_ids=[1, 2, 3, 4, 5, 7, 8]))
    later = [*SAID[:2], {"role": "user", "content": "later"}]
    put(database, interaction(5, messages=later, prompt_ids=[1, 2, 3, 4, 5, 6]))
    put(database, interaction(6, messages=SAID, prompt_ids=[1, 2, 3, 4, 9, 7, 8]))
    assert found(database) == {"chatcmpl-0001": "No, in French."}


@pytest.mark.parametrize(
    "other",
    [
        {"prompt_ids": [1, 2, 3, 4, 5, 7], "user": "bob"},
        {"prompt_ids": [1, 2, 3, 4, 5, 7], "tenant": "shop"},
        {"prompt_ids": [1, 2, 3, 4, 5, 7], "policy": "shop"},
        {"prompt_ids": [1, 2, 3]},
    ],
)
def test_what_others_said_and_what_was_asked_again_follows_nothing(sqlite: Database, other):
    put(sqlite, interaction(1, prompt_ids=[1, 2, 3]), thumbs(1))
    put(sqlite, interaction(2, messages=SAID, **other))
    assert found(sqlite) == {}


@pytest.mark.parametrize(
    "messages",
    [
        [*SAID[:2], {"role": "tool", "content": "7"}],  # no turn of the user's
        [SAID[0], {"role": "assistant", "content": "bonjour"}, SAID[2]],  # of another answer
        [SAID[2]],
        [*SAID[:2], {"role": "user", "content": " "}],
    ],
)
def test_a_session_that_went_on_without_the_answer_follows_nothing(sqlite: Database, messages):
    put(sqlite, interaction(1, session_id="s"), thumbs(1))
    put(sqlite, interaction(2, session_id="s", prompt_ids=[9], messages=messages))
    assert found(sqlite) == {}


def test_parts_of_a_message_are_read_as_one_text(sqlite: Database):
    parts = [{"type": "text", "text": "No. "}, {"type": "text", "text": "Again!"}]
    put(sqlite, interaction(1, session_id="s"), thumbs(1))
    messages = [*SAID[:2], {"role": "user", "content": parts}]
    put(sqlite, interaction(2, session_id="s", prompt_ids=[9], messages=messages))
    assert found(sqlite) == {"chatcmpl-0001": "No. Again!"}


def test_answers_that_nobody_judged_are_read_apart(database: Database):
    put(database, *(interaction(n) for n in range(1, 5)), thumbs(2), thumbs(3, name="comment"))
    put(database, interaction(9, policy="shop"))
    with database.read() as session:
        silent = unjudged(session, "default", champion=3, limit=3, max_staleness=9)
        assert unjudged(session, "default", champion=30, limit=9, max_staleness=9) == []
    assert [answer.interaction_id for answer in silent] == ["chatcmpl-0003", "chatcmpl-0004"]
    assert (silent[0].token_ids, silent[0].staleness) == ((4, 5), 2)
