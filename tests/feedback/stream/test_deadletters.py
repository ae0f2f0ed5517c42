"""What a reader could not use is kept with its reason, and comes back on request."""

from datetime import datetime

import pytest
from burnish.feedback.contract import FEEDBACK, INTERACTIONS
from burnish.feedback.errors import UnknownEvent
from burnish.feedback.events import decode
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.deadletters import (
    attempts_so_far,
    dead_letter,
    forget,
    letters,
    replay,
    replay_all,
)
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.stream.redis_stream import RedisStream

from tests.feedback.conftest import read_all


@pytest.fixture
def broken(stream: EventStream, topic: str) -> StreamRecord:
    stream.publish([StreamRecord(topic, "key", b"no JSON", {"ce_id": "e1", "ce_type": "x.v1"})])
    [record] = read_all(stream, topic)
    return record


def bury(stream: EventStream, record: StreamRecord, attempts: int = 1) -> None:
    with pytest.raises(UnknownEvent) as caught:
        decode(record)
    dead_letter(stream, record, caught.value, attempts)


def test_a_dead_letter_says_where_it_came_from_and_why(
    stream: EventStream, topic: str, broken: StreamRecord
) -> None:
    bury(stream, broken, attempts=3)
    [letter] = letters(stream, topic)
    assert letter.topic == f"{topic}.dlt"
    assert (letter.key, letter.value) == (broken.key, broken.value)
    assert letter.headers["ce_id"] == "e1"
    assert letter.headers["dlt_topic"] == topic
    assert letter.headers["dlt_partition"] == str(broken.partition)
    assert letter.headers["dlt_offset"] == broken.offset
    assert letter.headers["dlt_exception"] == "UnknownEvent"
    assert "CloudEvent" in letter.headers["dlt_message"]
    assert attempts_so_far(letter) == 3


def test_letters_older_than_a_time_are_deleted_and_later_ones_kept(
    stream: EventStream, topic: str, broken: StreamRecord
) -> None:
    bury(stream, broken)
    bury(stream, broken)
    [*_, newest] = letters(stream, topic)
    between = datetime.fromisoformat(newest.headers["dlt_time"]).timestamp()
    assert forget(stream, topic, between, batch=1) == 1
    assert [letter.offset for letter in letters(stream, topic)] == [newest.offset]
    assert forget(stream, topic, between) == 0


def test_replay_puts_everything_back_once(
    stream: EventStream, topic: str, broken: StreamRecord
) -> None:
    for _ in range(5):
        bury(stream, broken)
    assert replay(stream, topic, batch=2) == 5
    assert replay(stream, topic) == 0
    back = read_all(stream, topic)[1:]
    assert len(back) == 5
    assert {(r.key, r.value, r.event_id) for r in back} == {("key", b"no JSON", "e1")}
    assert all("dlt_exception" not in record.headers for record in back)
    assert list(letters(stream, topic)) == []


def test_attempts_add_up_over_replays(
    stream: EventStream, topic: str, broken: StreamRecord
) -> None:
    bury(stream, broken, attempts=2)
    replay(stream, topic)
    again = read_all(stream, topic)[-1]
    bury(stream, again, attempts=1)
    [letter] = letters(stream, topic)
    assert attempts_so_far(letter) == 3


def test_a_topic_without_dead_letters_has_nothing_to_replay(
    stream: EventStream, topic: str
) -> None:
    assert replay(stream, topic) == 0


def test_one_call_replays_every_topic(redis_client, redis_url: str) -> None:
    stream = RedisStream(redis_url)
    for count, topic in enumerate((INTERACTIONS, FEEDBACK), 1):
        for _ in range(count):
            dead_letter(stream, StreamRecord(topic, "key", b"{}"), ValueError("why"), 1)
    settings = StreamSettings(redis_url=redis_url, kafka_bootstrap=None)
    assert replay_all(settings) == {INTERACTIONS: 1, FEEDBACK: 2}
    assert len(read_all(stream, FEEDBACK)) == 2
    stream.close()
