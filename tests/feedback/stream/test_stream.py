"""What every event stream must do; the same tests run on Redis Streams and on a real Kafka."""

import time

import pytest
from burnish.feedback.errors import RecordRefused, StreamFull, StreamUnavailable
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.opening import open_raw_stream
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.stream.redis_stream import RedisStream

from tests.conftest import free_port
from tests.feedback.conftest import OpenStream, read_all, records


def test_what_is_published_can_be_read_whole(stream: EventStream, topic: str) -> None:
    sent = StreamRecord(
        topic, "key-ü", b'{"a": "\xc3\xbc"}', {"ce_id": "1", "ce_type": "t.v1", "x": "ü"}
    )
    stream.publish([sent])
    [found] = read_all(stream, topic)
    assert (found.topic, found.key, found.value) == (sent.topic, sent.key, sent.value)
    assert found.headers == sent.headers
    assert found.event_id == "1"
    assert found.offset is not None


def test_publishing_nothing_is_allowed(stream: EventStream, topic: str) -> None:
    stream.publish([])
    assert read_all(stream, topic) == []


def test_one_key_keeps_its_order_and_its_partition(stream: EventStream, topic: str) -> None:
    pairs = [(f"key-{n % 7}", f"{n:03}") for n in range(70)]
    stream.publish(records(topic, pairs[:30]))
    stream.publish(records(topic, pairs[30:]))
    found = read_all(stream, topic)
    assert len(found) == 70
    for key in {key for key, _ in pairs}:
        of_key = [record for record in found if record.key == key]
        assert [record.event_id for record in of_key] == [n for k, n in pairs if k == key]
        assert len({record.partition for record in of_key}) == 1


def test_reading_goes_on_after_the_callers_own_position(open_one: OpenStream, topic: str) -> None:
    writer = open_one()
    writer.ensure_topics()
    writer.publish(records(topic, [("key", str(n)) for n in range(10)]))
    first = open_one()
    [partition] = [p for p in first.partitions(topic) if first.end_offset(topic, p)]
    some = first.read(topic, partition, None, max_records=4)
    assert [record.event_id for record in some] == ["0", "1", "2", "3"]
    first.close()
    # Another process, later, knows nothing but the offset.
    second = open_one()
    rest = second.read(topic, partition, some[-1].offset, max_records=100)
    assert [record.event_id for record in rest] == ["4", "5", "6", "7", "8", "9"]
    assert second.end_offset(topic, partition) == rest[-1].offset
    # And whoever asks again for the same gets the same.
    assert second.read(topic, partition, some[-1].offset, max_records=2) == rest[:2]


def test_an_empty_partition_answers_at_once_or_waits_as_long_as_asked(
    stream: EventStream, topic: str
) -> None:
    partition = stream.partitions(topic)[0]
    assert stream.end_offset(topic, partition) is None
    stream.read(topic, partition, None)  # the client is made at the first call
    began = time.monotonic()
    assert stream.read(topic, partition, None) == []
    assert time.monotonic() - began < 0.3
    began = time.monotonic()
    assert stream.read(topic, partition, None, timeout=0.3) == []
    assert 0.2 < time.monotonic() - began < 2


def test_a_reader_that_waits_sees_what_arrives(open_one: OpenStream, topic: str) -> None:
    writer, reader = open_one(), open_one()
    writer.ensure_topics()
    writer.publish(records(topic, [("key", "1")]))
    [partition] = [p for p in reader.partitions(topic) if reader.end_offset(topic, p)]
    [first] = reader.read(topic, partition, None)
    writer.publish(records(topic, [("key", "2")]))
    [second] = reader.read(topic, partition, first.offset, timeout=5)
    assert second.event_id == "2"


def test_trimming_never_costs_what_was_not_read(stream: EventStream, topic: str) -> None:
    stream.publish(records(topic, [("key", str(n)) for n in range(6)]))
    [partition] = [p for p in stream.partitions(topic) if stream.end_offset(topic, p)]
    stored = stream.read(topic, partition, None, max_records=2)
    position = stored[-1].offset
    assert position is not None
    stream.trim(topic, partition, position)
    rest = stream.read(topic, partition, position)
    assert [record.event_id for record in rest] == ["2", "3", "4", "5"]
    stream.trim(topic, partition, str(rest[-1].offset))
    stream.publish(records(topic, [("key", "6")]))
    assert [r.event_id for r in stream.read(topic, partition, rest[-1].offset)] == ["6"]


def test_ensuring_topics_again_changes_nothing(stream: EventStream, topic: str) -> None:
    stream.publish(records(topic, [("key", "1")]))
    stream.ensure_topics()
    assert [record.event_id for record in read_all(stream, topic)] == ["1"]


def test_redis_forgets_what_was_trimmed(redis_client, redis_url: str, topic: str) -> None:
    stream = RedisStream(redis_url)
    stream.publish(records(topic, [("key", str(n)) for n in range(5)]))
    read = stream.read(topic, 0, None, max_records=3)
    stream.trim(topic, 0, str(read[-1].offset))
    assert redis_client.xlen(f"burnish:stream:{topic}") == 2
    stream.close()


def test_redis_takes_no_more_than_its_readers_can_be_behind(
    redis_client, redis_url: str, topic: str
) -> None:
    stream = RedisStream(redis_url, max_waiting=3)
    stream.publish(records(topic, [("key", "1"), ("key", "2")]))
    with pytest.raises(StreamFull):
        stream.publish(records(topic, [("key", "3"), ("key", "4")]))
    stream.trim(topic, 0, str(stream.end_offset(topic, 0)))
    stream.publish(records(topic, [("key", "3"), ("key", "4")]))
    stream.close()


def test_redis_reads_entries_that_are_not_ours(redis_client, redis_url: str, topic: str) -> None:
    redis_client.xadd(f"burnish:stream:{topic}", {b"\xff": b"\xfe", "value": "no JSON"})
    stream = RedisStream(redis_url)
    [record] = stream.read(topic, 0, None)
    assert (record.key, record.value, record.event_id) == ("", b"no JSON", "")
    stream.close()


def test_kafka_names_the_record_that_is_too_big(kafka_bootstrap: str, topic: str) -> None:
    stream = KafkaStream(kafka_bootstrap, topics=[topic])
    stream.ensure_topics()
    small, big = StreamRecord(topic, "a", b"1"), StreamRecord(topic, "b", b"x" * (9 * 2**20))
    with pytest.raises(RecordRefused) as refused:
        stream.publish([small, big])
    assert refused.value.record is big
    stream.publish([small])
    stream.close()


def test_kafka_topics_made_anew_are_read_from_their_beginning(
    kafka_bootstrap: str, topic: str
) -> None:
    stream = KafkaStream(kafka_bootstrap, topics=[topic], partitions=1)
    stream.ensure_topics()
    stream.publish(records(topic, [("key", "1"), ("key", "2")]))
    found = stream.read(topic, 0, "4711")
    assert [record.event_id for record in found] == ["1", "2"]
    stream.close()


@pytest.mark.parametrize("kind", ["redis", "kafka"])
def test_a_server_that_is_away_is_an_error_and_not_a_wait_for_ever(kind: str, topic: str) -> None:
    port = free_port()
    stream: EventStream = (
        RedisStream(f"redis://127.0.0.1:{port}")
        if kind == "redis"
        else KafkaStream(f"127.0.0.1:{port}", timeout_s=0.5)
    )
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(StreamUnavailable):
            stream.publish(records(topic, [("key", "1")]))
    with pytest.raises(StreamUnavailable):
        stream.read(topic, 0, None)
    assert time.monotonic() - began < 10
    stream.close()


def test_settings_choose_the_stream() -> None:
    assert isinstance(open_raw_stream(StreamSettings(kafka_bootstrap="127.0.0.1:9")), KafkaStream)
    assert isinstance(open_raw_stream(StreamSettings(kafka_bootstrap=None)), RedisStream)
