"""Three brokers: any one may be away, and nothing that was acknowledged depends on a single one."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from burnish.feedback.contract import FEEDBACK, INTERACTIONS
from burnish.feedback.errors import StreamUnavailable
from burnish.feedback.events import encode
from burnish.feedback.spool.forwarder import Forwarder
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.kafka_stream import KafkaStream
from burnish.feedback.stream.record import StreamRecord
from burnish.learner.database import Database
from burnish.learner.intake.sharing import consume_shared
from burnish.learner.lease import Lease
from burnish.learner.tables import CreditRow, InteractionRow, JudgementRow
from burnish.ops.kafka.cluster import KafkaCluster
from burnish.ops.kafka.node import KafkaNodeError
from kafka.admin import ConfigResource, ConfigResourceType
from sqlalchemy import func, select

from tests.conftest import free_port
from tests.feedback.conftest import read_all, records
from tests.learner.conftest import interaction, thumbs
from tests.waiting import eventually

OpenStream = Callable[..., KafkaStream]


@pytest.fixture
def whole(kafka_cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    """The cluster with all its brokers, before and after the test."""
    yield kafka_cluster
    for node in kafka_cluster.nodes:
        if node.process is None:
            node.start()


@pytest.fixture
def open_stream(whole: KafkaCluster) -> Iterator[OpenStream]:
    opened: list[KafkaStream] = []

    def make(**options) -> KafkaStream:
        opened.append(KafkaStream(whole.bootstrap, **options))
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


@pytest.fixture
def topic() -> str:
    return f"topic-{free_port()}"


def settings_of(stream: KafkaStream, topic: str) -> dict[str, str]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    answer = stream._admin().describe_configs(asked, config_filter="all")
    return {name: data["value"] for name, data in answer["topic"][topic].items()}


def replicas_of(stream: KafkaStream, topic: str) -> set[int]:
    (described,) = stream._admin().describe_topics([topic])
    return {len(partition["replica_nodes"]) for partition in described["partitions"]}


def test_topics_are_made_to_survive_a_broker(open_stream: OpenStream, topic: str):
    stream = open_stream(topics=[topic], partitions=5)
    stream.ensure_topics()
    assert stream.partitions(topic) == [0, 1, 2, 3, 4]
    for name in (topic, topic + ".dlt"):
        assert replicas_of(stream, name) == {3}
        told = settings_of(stream, name)
        assert told["min.insync.replicas"] == "2"
        assert told["unclean.leader.election.enable"] == "false"
        assert told["cleanup.policy"] == "delete"


def test_a_topic_of_an_operator_is_told_and_never_altered(
    open_stream: OpenStream, topic: str, caplog: pytest.LogCaptureFixture
):
    admin = open_stream(topics=[])._admin()
    compacted = {"cleanup.policy": "compact", "max.message.bytes": "1000"}
    admin.create_topics(
        {topic: {"num_partitions": 2, "replication_factor": 1, "configs": compacted}}
    )
    risky = {"min.insync.replicas": "1"}
    other = topic + "-other"
    admin.create_topics({other: {"num_partitions": 1, "replication_factor": 3, "configs": risky}})
    admin.wait_for_topics([topic, other])
    stream = open_stream(topics=[topic, other])
    with caplog.at_level(logging.WARNING):
        stream.ensure_topics()
        stream.ensure_topics()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told)) == 4, "each problem once"
    assert f"topic {topic} has 1 replicas, 3 brokers could hold it" in told[0]
    assert any("is compacted" in line for line in told)
    assert any("more than 1000 bytes" in line for line in told)
    assert any(f"topic {other} has min.insync.replicas=1" in line for line in told)
    assert stream.partitions(topic) == [0, 1]
    assert replicas_of(stream, topic) == {1}
    assert settings_of(stream, topic)["cleanup.policy"] == "compact"
    assert settings_of(stream, other)["min.insync.replicas"] == "1"


def test_an_interaction_and_what_is_said_about_it_share_a_partition(open_stream: OpenStream):
    stream = open_stream(partitions=3)
    stream.ensure_topics()
    keys = [f"chatcmpl-{n}" for n in range(40)]
    for name in (INTERACTIONS, FEEDBACK):
        stream.publish([StreamRecord(name, key, b"{}", {"ce_id": key}) for key in keys])
    places: dict[str, set[int]] = defaultdict(set)
    for name in (INTERACTIONS, FEEDBACK):
        for record in read_all(stream, name):
            places[record.key].add(record.partition)
    assert all(len(places[key]) == 1 for key in keys)
    assert len(set.union(*places.values())) == 3


def test_lag_is_what_the_reader_does_not_have(open_stream: OpenStream, topic: str):
    stream = open_stream(topics=[topic], partitions=1)
    stream.ensure_topics()
    assert stream.lag(topic, 0, None) == 0
    stream.publish(records(topic, [("k", str(n)) for n in range(10)]))
    third = stream.read(topic, 0, None)[2].offset
    assert stream.lag(topic, 0, None) == 10
    assert stream.lag(topic, 0, third) == 7


@pytest.mark.timeout(300)
def test_two_brokers_away_acknowledge_nothing_and_lose_nothing(
    whole: KafkaCluster, open_stream: OpenStream, topic: str
):
    stream = open_stream(topics=[topic], timeout_s=3)
    stream.ensure_topics()
    stream.publish(records(topic, [("k", "before")]))
    for node in whole.nodes[1:]:
        node.kill()
    with pytest.raises(StreamUnavailable):
        stream.publish(records(topic, [("k", "alone")]))
    whole.nodes[1].launch()
    whole.nodes[1].wait(120)

    def published() -> bool:
        try:
            stream.publish(records(topic, [("k", "after")]))
        except StreamUnavailable:
            return False
        return True

    eventually(published, 120)
    names = [record.event_id for record in read_all(stream, topic)]
    assert names[0] == "before"
    assert "after" in names


@pytest.mark.timeout(300)
async def test_a_broker_killed_under_load_refuses_and_loses_nothing(
    whole: KafkaCluster, open_stream: OpenStream, topic: str, tmp_path: Path
):
    """What the spool accepted is on the stream, in order for each key, whoever led its partition."""
    count, keys = 3000, 50
    spool = Spool(tmp_path / "spool.db")
    forwarder = Forwarder(spool, open_stream(topics=[topic], timeout_s=3), longest_pause_s=0.5)
    forwarder.start()
    for n in range(count):
        event = interaction(n)
        await spool.append(topic, f"key-{n % keys}", event)
        if n == count // 3:
            whole.nodes[0].kill()
        if n == 2 * count // 3:
            whole.nodes[0].launch()
    eventually(lambda: not spool.waiting(), 120)
    forwarder.stop()
    spool.close()
    by_key: dict[str, list[str]] = defaultdict(list)
    for record in read_all(open_stream(topics=[topic]), topic):
        if record.event_id not in by_key[record.key]:  # sent again after a lost acknowledgement
            by_key[record.key].append(record.event_id)
    assert sum(map(len, by_key.values())) == count
    assert all(names == sorted(names) for names in by_key.values())
    whole.nodes[0].wait(60)


@pytest.mark.timeout(300)
def test_two_workers_share_the_intake_while_a_broker_dies(
    whole: KafkaCluster,
    open_stream: OpenStream,
    postgres_url: str,
    redis_client: redis.Redis,
):
    count = 1200
    stream = open_stream(timeout_s=3)
    stream.ensure_topics()
    database = Database(postgres_url)
    database.migrate()
    for start in range(0, count, 400):
        numbers = range(start, start + 400)
        stream.publish([encode(interaction(n)) for n in numbers])
        stream.publish([encode(thumbs(n)) for n in numbers])
    took: Counter[int] = Counter()

    def rows(table) -> int:
        with database.read() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    stopping = threading.Event()

    def work(worker: int) -> None:
        mine, reading = Database(postgres_url), KafkaStream(whole.bootstrap, timeout_s=3)
        while not stopping.is_set():
            try:
                tick = consume_shared(
                    mine,
                    reading,
                    lambda name: Lease(redis_client, name, 4.0, database=mine),
                    seconds=0.5,
                )
            except StreamUnavailable:
                continue
            took[worker] += sum(tick.counts.values()) if tick else 0
        reading.close()
        mine.close()

    workers = [threading.Thread(target=work, args=[n]) for n in range(2)]
    for worker in workers:
        worker.start()
    eventually(lambda: rows(InteractionRow) > 0, 60)
    whole.nodes[2].kill()
    try:
        eventually(lambda: rows(InteractionRow) == rows(JudgementRow) == count, 150)
    finally:
        stopping.set()
        for worker in workers:
            worker.join(60)
    assert rows(CreditRow) == count, "every vote has met its answer, once"
    assert min(took[0], took[1]) > 0, "both took part"
    database.close()


def test_a_cluster_that_was_made_with_three_is_started_with_three(tmp_path: Path):
    first = KafkaCluster(tmp_path)
    assert KafkaCluster(tmp_path).bootstrap == first.bootstrap
    with pytest.raises(KafkaNodeError, match="holds a cluster of 3 brokers, not 5"):
        KafkaCluster(tmp_path, 5)
    with pytest.raises(KafkaNodeError, match="3 brokers or more"):
        KafkaCluster(tmp_path / "other", 2)
