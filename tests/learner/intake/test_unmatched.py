"""A judgement that cannot be joined is told, by name and with the reason, as long as that is so."""

from datetime import timedelta

import pytest
import redis
from burnish.feedback.contract import UNMATCHED_KEY
from burnish.learner.database import Database
from burnish.learner.intake.unmatched import reasons, tell
from burnish.learner.intake.upsert import upsert

from tests.learner.conftest import START, interaction, retraction, thumbs

LATER = (START + timedelta(hours=1)).timestamp()


def put(database: Database, *events) -> None:
    with database.write() as session:
        upsert(session, events)


def told(database: Database, before: float = LATER) -> dict[tuple[str, str], str]:
    with database.read() as session:
        return reasons(session, before)


@pytest.mark.parametrize(
    ("judgement", "why"),
    [
        (thumbs(1, on=7), "the answer 'chatcmpl-0007' was not recorded"),
        (thumbs(1, choice=5), "interaction 'chatcmpl-0001' has no answer with choice 5"),
        (thumbs(1, interaction_id=None, session_id="s"), "no answer of session 's' was recorded"),
    ],
)
def test_what_has_no_answer_is_told_with_the_reason(database: Database, judgement, why):
    put(database, judgement)
    put(database, interaction(1), interaction(2), thumbs(2))
    found = told(database)
    assert list(found) == [("local", "fb-0001")]
    assert why in found["local", "fb-0001"]
    assert told(database, before=judgement.time.timestamp()) == {}, "it may still come"
    put(database, retraction(1))
    assert told(database) == {}


def test_an_answer_that_comes_late_ends_the_waiting(database: Database):
    put(database, thumbs(1), thumbs(2, interaction_id=None, session_id="s"))
    assert len(told(database)) == 2
    put(database, interaction(1, session_id="s"))
    assert told(database) == {}


def test_serving_reads_the_reasons(sqlite: Database, redis_client: redis.Redis):
    put(sqlite, thumbs(1))
    with sqlite.read() as session:
        assert tell(session, redis_client, LATER) == 1
    assert list(redis_client.hkeys(UNMATCHED_KEY)) == [b"local/fb-0001"]
    put(sqlite, interaction(1))
    with sqlite.read() as session:
        assert tell(session, redis_client, LATER) == 0
    assert not redis_client.exists(UNMATCHED_KEY)
