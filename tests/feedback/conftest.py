"""Both streams, for the tests that hold for either."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from burnish.feedback.events import Completion, FeedbackEvent, InteractionEvent
from burnish.feedback.kafka_stream import KafkaStream
from burnish.feedback.redis_stream import RedisStream
from burnish.feedback.spool import Spool
from burnish.feedback.stream import EventStream, Record

OpenStream = Callable[[], EventStream]


def interaction(name: str = "i1", **fields) -> InteractionEvent:
    answer = Completion(
        index=0, token_ids=[5, 6], logprobs=[-0.1, -2.5], text="hello", finish_reason="stop"
    )
    given = {"tenant": "acme", "policy": "default", "version": 3, "prompt_ids": [1, 2, 3]}
    return InteractionEvent(id=name, completions=[answer], **{**given, **fields})


def thumbs(value: Any = "down", **fields) -> FeedbackEvent:
    given = {"id": "f1", "tenant": "acme", "user": "ann", "interaction_id": "i1", "name": "thumbs"}
    return FeedbackEvent(value=value, **{**given, **fields})


def read_all(stream: EventStream, topic: str) -> list[Record]:
    found: list[Record] = []
    for partition in stream.partitions(topic):
        after = None
        while records := stream.read(topic, partition, after):
            found += records
            after = records[-1].offset
    return found


def records(topic: str, pairs: Sequence[tuple[str, str]]) -> list[Record]:
    return [
        Record(topic, key, f'{{"n": "{name}"}}'.encode(), {"ce_id": name, "ce_type": "test.v1"})
        for key, name in pairs
    ]


@pytest.fixture
def topic() -> str:
    """A topic of its own: Kafka's outlive a test."""
    return f"test.{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["redis", "kafka"])
def open_one(request: pytest.FixtureRequest, topic: str) -> Iterator[OpenStream]:
    """Opens streams onto the same server: several, as different processes would."""
    opened: list[EventStream] = []
    if request.param == "redis":
        request.getfixturevalue("redis_client")
        url = request.getfixturevalue("redis_url")

        def make() -> EventStream:
            return RedisStream(url)

    else:
        bootstrap = request.getfixturevalue("kafka_bootstrap")

        def make() -> EventStream:
            return KafkaStream(bootstrap, topics=[topic])

    def open_one() -> EventStream:
        opened.append(make())
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


@pytest.fixture
def stream(open_one: OpenStream) -> EventStream:
    stream = open_one()
    stream.ensure_topics()
    return stream


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db")
    yield spool
    spool.close()
