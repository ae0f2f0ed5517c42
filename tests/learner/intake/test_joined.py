"""People are told once that their judgement has met its answer."""

import redis
from burnish.feedback.contract import FATE_PREFIX, FATES_JOINED_KEY
from burnish.learner.database import Database
from burnish.learner.intake.joined import tell_joined
from burnish.learner.intake.upsert import upsert

from tests.learner.conftest import interaction, thumbs


def put(database: Database, *events) -> None:
    with database.write() as session:
        upsert(session, events)


def told(database: Database, client: redis.Redis) -> int:
    with database.read() as session:
        return tell_joined(session, client)


def test_a_judgement_is_told_when_its_answer_is_there(sqlite: Database, redis_client: redis.Redis):
    put(sqlite, thumbs(1))
    assert told(sqlite, redis_client) == 0
    put(sqlite, interaction(1))
    assert told(sqlite, redis_client) == 1
    found = redis_client.hgetall(FATE_PREFIX + "local/fb-0001")
    assert found[b"policy"] == b"default"
    assert float(found[b"joined_at"]) > 0
    assert told(sqlite, redis_client) == 0, "once"
    put(sqlite, interaction(2), thumbs(2))
    assert told(sqlite, redis_client) == 1


def test_a_lost_mark_begins_with_the_latest(sqlite: Database, redis_client: redis.Redis):
    put(sqlite, interaction(1), thumbs(1))
    assert told(sqlite, redis_client) == 1
    redis_client.delete(FATES_JOINED_KEY)
    assert told(sqlite, redis_client) == 1
